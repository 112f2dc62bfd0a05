//! Workers: started with a reason and within bounds, told to leave, gone.

use ipc_protocol::ids::{Generation, JobId};
use ipc_protocol::units::Mebibytes;
use pool::{Exit, Moment, StartReason, StopReason};

use super::{Life, Seen, Shadow, Verdict};

impl Shadow {
    pub(super) fn start(&mut self, now: Moment, start: &pool::Start) -> Verdict {
        let model = start.model.to_string();
        if start.worker.0 <= self.last_generation {
            return Err(format!("generation {} is not new", start.worker));
        }
        self.last_generation = start.worker.0;
        self.check_start(now, &model, start)?;
        for (&device, &part) in &start.reserved {
            self.held.insert((start.worker, device), part);
            *self.sums.entry(device).or_default() += part;
        }
        let seen = Seen {
            model,
            device: start.device,
            life: Life::Coming,
            extra: Mebibytes::ZERO,
            fault: false,
        };
        self.workers.insert(start.worker, seen);
        Ok(())
    }

    pub(super) fn check_start(&mut self, now: Moment, model: &str, start: &pool::Start) -> Verdict {
        let mates: Vec<&Seen> = self.workers.values().filter(|w| w.model == model).collect();
        let most = self.most(model);
        if mates.len() >= most {
            return Err(format!(
                "worker {} of {model}, {most} may be",
                mates.len() + 1
            ));
        }
        if start.name.slot as usize >= most + 8 {
            return Err(format!("slot {} is not the lowest", start.name.slot));
        }
        let waits = self
            .jobs
            .values()
            .filter(|job| job.model == model && job.on.is_none());
        let oldest = waits.map(|job| job.since).min();
        match start.reason {
            StartReason::Growth => {
                let all_busy = mates.iter().all(|w| {
                    matches!(
                        w.life,
                        Life::Busy(_) | Life::Unwinding(_) | Life::Leaving(_)
                    )
                });
                let due = oldest.is_some_and(|since| since + self.settings.grow_after <= now);
                if !all_busy || !due {
                    return Err(format!(
                        "{model} grew: all busy {all_busy}, wait over {due}"
                    ));
                }
            }
            StartReason::ColdStart | StartReason::Replacement | StartReason::Constraint => {
                if oldest.is_none() {
                    return Err(format!("{:?} of {model} for nobody", start.reason));
                }
            }
            StartReason::Floor => {
                let live = mates
                    .iter()
                    .filter(|w| !matches!(w.life, Life::Leaving(_)))
                    .count();
                if live >= self.most(model) {
                    return Err(format!("a floor of {model} above {live}"));
                }
            }
        }
        let cold = self.settings.cold_start_workers as usize;
        let account = self.models.entry(model.to_owned()).or_default();
        if now < account.no_start_before {
            return Err(format!("{model} started within its back-off"));
        }
        let live = self
            .workers
            .values()
            .filter(|w| w.model == model && !matches!(w.life, Life::Leaving(_)));
        let live: Vec<&Seen> = live.collect();
        if start.reason == StartReason::ColdStart && live.len() >= cold.max(1) {
            return Err(format!("a cold start of {} of {model}", live.len() + 1));
        }
        Ok(())
    }

    pub(super) fn most(&self, model: &str) -> usize {
        let own = self.specs.get(model).and_then(|spec| spec.max_workers);
        own.unwrap_or(self.settings.max_workers_per_model).max(1) as usize
    }

    pub(super) fn worker_is_free(&mut self, worker: Generation, job: JobId) {
        let Some(seen) = self.workers.get_mut(&worker) else {
            return;
        };
        match seen.life.clone() {
            Life::Busy(on) | Life::Unwinding(on) if on == job => {
                seen.life = Life::Idle;
            }
            Life::Leaving(Some(on)) if on == job => seen.life = Life::Leaving(None),
            Life::Coming | Life::Idle | Life::Busy(_) | Life::Unwinding(_) | Life::Leaving(_) => {}
        }
        if let Some(job) = self.jobs.get_mut(&job)
            && job.on == Some(worker)
        {
            job.on = None;
        }
    }

    pub(super) fn leave(&mut self, worker: Generation) -> Verdict {
        let Some(seen) = self.workers.get_mut(&worker) else {
            return Err(format!("worker {worker} is told to leave and is gone"));
        };
        seen.life = match seen.life.clone() {
            Life::Busy(job) => Life::Leaving(Some(job)),
            Life::Coming | Life::Idle | Life::Unwinding(_) => Life::Leaving(None),
            leaving @ Life::Leaving(_) => leaving,
        };
        Ok(())
    }

    /// The reason comes right after the action, so the worker is leaving already; what it was
    /// doing is what counts.
    pub(super) fn stopping(&mut self, worker: Generation, why: StopReason) -> Verdict {
        let Some(seen) = self.workers.get_mut(&worker) else {
            return Err(format!("worker {worker} stops and is gone"));
        };
        seen.fault = why.is_fault();
        match (why, &seen.life) {
            (
                StopReason::Evicted
                | StopReason::Idle
                | StopReason::Scaled
                | StopReason::Abandoned
                | StopReason::Outdated,
                Life::Leaving(Some(_)),
            ) => Err(format!(
                "worker {worker} has a job and is told to leave: {}",
                why.word()
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn worker_gone(
        &mut self,
        worker: Generation,
        exit: Option<Exit>,
        salvaged: Option<u32>,
    ) {
        let Some(seen) = self.workers.remove(&worker) else {
            return;
        };
        self.reaped.insert(worker);
        let confirms = self.confirms.clone();
        let spawned = exit.is_some();
        self.release(worker, |device| !spawned || !confirms.contains(&device));
        let at_hand = match seen.life {
            Life::Busy(job) | Life::Leaving(Some(job)) => Some(job),
            Life::Coming | Life::Idle | Life::Unwinding(_) | Life::Leaving(None) => None,
        };
        let alone = !matches!(seen.life, Life::Leaving(_));
        if let Some(job) = at_hand.and_then(|job| self.jobs.get_mut(&job)) {
            job.on = None;
            job.salvaged = job.salvaged.max(salvaged.unwrap_or(0));
            job.crashes += u32::from(alone && exit.is_some_and(is_crash));
        }
    }
}

/// A signal that nobody sent, or a panic.
fn is_crash(exit: Exit) -> bool {
    match exit {
        Exit::Code(code) => code == 85,
        Exit::Signal { signal, by } => {
            by == pool::KilledBy::Other && [4, 5, 6, 8, 11].contains(&signal)
        }
    }
}
