//! Winding down: take nothing new, finish what is accepted, leave.

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::{Generation, JobId};

use crate::action::{Action, Notice, StopReason};
use crate::event::{Drain, Ticket};
use crate::moment::Moment;
use crate::pool::Pool;
use crate::turn::Turn;
use crate::worker::Worker;

/// How far the pool is wound down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not at all.
    Serving,
    /// Takes nothing new, stays up.
    Refusing { since: Moment },
    /// Finishes what it has by a moment, then leaves.
    Leaving { since: Moment, until: Moment },
    /// Said `Exit`.
    Gone { since: Moment },
}

impl Phase {
    pub(crate) fn refuses(self) -> bool {
        match self {
            Self::Serving => false,
            Self::Refusing { .. } | Self::Leaving { .. } | Self::Gone { .. } => true,
        }
    }

    /// When it began to refuse, while it does.
    pub(crate) fn since(self) -> Option<Moment> {
        match self {
            Self::Refusing { since } | Self::Leaving { since, .. } | Self::Gone { since } => {
                Some(since)
            }
            Self::Serving => None,
        }
    }
}

/// The refusal of what comes while the pool winds down.
pub fn draining() -> Failure {
    let message = "the pool is draining and takes nothing new";
    Failure::new(FailureKind::Draining, message).retry_after_ms(5000)
}

impl Pool {
    pub(crate) fn drain_requested(
        &mut self,
        turn: &mut Turn,
        ticket: Option<Ticket>,
        drain: Drain,
    ) {
        if drain == Drain::Undo {
            return self.undo_drain(turn, ticket);
        }
        let jobs = self.jobs.len() as u64;
        turn.tell(Notice::Draining { jobs });
        if let Some(ticket) = ticket {
            let line = format!("Draining: {jobs} jobs to finish");
            turn.acknowledge(ticket, vec![line], true);
        }
        let until = match drain {
            Drain::Stay | Drain::Undo => None,
            Drain::Exit => Some(turn.now + self.settings.drain),
            Drain::ExitNow => Some(turn.now),
        };
        let since = self.phase.since().unwrap_or(turn.now);
        self.phase = match (self.phase, until) {
            (Phase::Serving | Phase::Refusing { .. }, None) => Phase::Refusing { since },
            (Phase::Serving | Phase::Refusing { .. }, Some(until)) => {
                Phase::Leaving { since, until }
            }
            (Phase::Leaving { until: before, .. }, Some(until)) => Phase::Leaving {
                since,
                until: before.min(until),
            },
            (before @ (Phase::Leaving { .. } | Phase::Gone { .. }), _) => before,
        };
        self.drain_overdue(turn);
    }

    /// Takes requests again, unless the pool is on its way out.
    fn undo_drain(&mut self, turn: &mut Turn, ticket: Option<Ticket>) {
        let (line, success) = match self.phase {
            Phase::Serving => ("Serving: it was not draining", true),
            Phase::Refusing { .. } => {
                self.phase = Phase::Serving;
                turn.tell(Notice::DrainUndone);
                ("Serving again", true)
            }
            Phase::Leaving { .. } | Phase::Gone { .. } => (
                "Shutting down, which cannot be undone: start the daemon again",
                false,
            ),
        };
        if let Some(ticket) = ticket {
            turn.acknowledge(ticket, vec![line.to_owned()], success);
        }
    }

    /// When what is left is cancelled.
    pub(crate) fn drains_at(&self) -> Option<Moment> {
        match self.phase {
            Phase::Leaving { until, .. } if !self.jobs.is_empty() => Some(until),
            Phase::Leaving { .. }
            | Phase::Serving
            | Phase::Refusing { .. }
            | Phase::Gone { .. } => None,
        }
    }

    /// Fails the jobs that are left when their time is over, and terminates their workers: one in a long
    /// step would answer a request to leave too late.
    pub(crate) fn drain_overdue(&mut self, turn: &mut Turn) {
        if self.drains_at().is_none_or(|at| at > turn.now) {
            return;
        }
        for job in self.jobs.keys().copied().collect::<Vec<JobId>>() {
            let message = "the pool was shut down before it could finish this";
            self.end_job(turn, job, Failure::new(FailureKind::Draining, message));
        }
        let at_work = |worker: &&Worker| !worker.is_idle();
        let late: Vec<Generation> = (self.workers.values().filter(at_work))
            .map(|worker| worker.generation)
            .collect();
        for worker in late {
            self.terminate_worker(turn, worker, StopReason::Drain);
        }
    }

    /// Ends the workers once no job is left, and leaves once no worker is.
    pub(crate) fn finish_drain(&mut self, turn: &mut Turn) {
        let Phase::Leaving { since, .. } = self.phase else {
            return;
        };
        if !self.jobs.is_empty() {
            return;
        }
        for worker in self.workers.keys().copied().collect::<Vec<Generation>>() {
            self.end_worker(turn, worker, StopReason::Drain);
        }
        if self.workers.is_empty() {
            self.finish_orders(turn);
            self.phase = Phase::Gone { since };
            turn.act(Action::Exit);
        }
    }
}
