//! What the pool says of itself, held against the second set of books.

use std::collections::BTreeSet;

use ipc_protocol::ids::{Generation, JobId};
use pool::{Moment, Pool};

use super::{Shadow, Verdict};

impl Shadow {
    /// Everything again from the start, against what the pool says of itself.
    pub(crate) fn compare(&self, now: Moment, pool: &Pool) -> Verdict {
        let snapshot = pool.snapshot(now);
        for book in &snapshot.memory {
            let of = |worker: &ipc_protocol::status::WorkerStatus| {
                worker.reserved_mb.get(&book.device).copied().unwrap_or(0)
            };
            let sum: u64 = snapshot.workers.iter().map(of).sum();
            if sum != book.reserved_mb {
                return Err(format!(
                    "{}: {} booked, {sum} held",
                    book.device, book.reserved_mb
                ));
            }
            if book.reserved_mb > book.limit_mb {
                return Err(format!("{}: more booked than may be", book.device));
            }
        }
        let names: BTreeSet<&str> = snapshot.workers.iter().map(|w| w.name.as_str()).collect();
        if names.len() != snapshot.workers.len() {
            return Err("two workers of one name".into());
        }
        let theirs: BTreeSet<Generation> = snapshot.workers.iter().map(|w| w.generation).collect();
        let ours: BTreeSet<Generation> = self.workers.keys().copied().collect();
        if theirs != ours {
            return Err(format!("workers {theirs:?}, should be {ours:?}"));
        }
        let theirs: BTreeSet<JobId> = snapshot.queue.iter().map(|entry| entry.job).collect();
        let ours: BTreeSet<JobId> = self.jobs.keys().copied().collect();
        if theirs != ours {
            return Err(format!("jobs {theirs:?}, should be {ours:?}"));
        }
        for entry in &snapshot.queue {
            let running = self
                .jobs
                .get(&entry.job)
                .is_some_and(|job| job.on.is_some());
            if running != (entry.state == "running") {
                return Err(format!(
                    "job {} is {}, runs: {running}",
                    entry.job, entry.state
                ));
            }
        }
        let most = u64::from(self.settings.max_overtakes);
        if snapshot.counters.overtakes_max > most && !self.settings.fifo {
            return Err(format!(
                "{} overtakes, {most} may be",
                snapshot.counters.overtakes_max
            ));
        }
        if snapshot.counters.spawns != self.last_generation {
            return Err("the counter of starts is wrong".into());
        }
        let total: u64 = snapshot.memory.iter().map(|book| book.reserved_mb).sum();
        match total == pool.total_memory_mb() {
            true => Ok(()),
            false => Err("the total is not the sum".into()),
        }
    }

    /// Nothing is left but what is to stay.
    pub(crate) fn check_rest(&self, pool: &Pool) -> Verdict {
        if !self.jobs.is_empty() {
            return Err(format!(
                "{} jobs never got an answer: {:?}",
                self.jobs.len(),
                self.jobs.keys().next()
            ));
        }
        if self.exited && (pool.total_memory_mb() != 0 || !self.workers.is_empty()) {
            return Err(format!("{} MB promised to nobody", pool.total_memory_mb()));
        }
        Ok(())
    }

    /// In a world without faults every accepted job ends in a picture, unless models that stay
    /// took the room it needed after it was accepted.
    pub(crate) fn check_no_failures(&self) -> Verdict {
        match self.crowded_out || self.answers == self.pictures {
            true => Ok(()),
            false => Err(format!(
                "{} of {} jobs failed in a world without faults: {:?}",
                self.answers - self.pictures,
                self.answers,
                self.first_failure
            )),
        }
    }
}
