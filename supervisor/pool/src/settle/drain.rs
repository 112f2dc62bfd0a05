//! Ends the jobs and workers that are left when the pool shuts down.

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::{Generation, JobId};

use crate::questions::deadline::drains_at;
use crate::settle::orders;
use crate::state::State;
use crate::state::job::Job;
use crate::state::phase::Phase;
use crate::state::worker::Worker;
use crate::steps::end_job::end_job;
use crate::steps::end_worker::{end_worker, terminate_worker};
use crate::words::action::Action;
use crate::words::reasons::StopReason;
use crate::words::turn::Turn;

/// Fails the jobs that are left when their time is over, and terminates their workers: one in a long step would
/// answer a request to exit too late.
pub(crate) fn fail_overdue(state: &mut State, turn: &mut Turn) {
    if drains_at(state).is_none_or(|at| at > turn.now()) {
        return;
    }
    for job in state.jobs().iter().map(Job::id).collect::<Vec<JobId>>() {
        let message = "the pool was shut down before it could finish this";
        let failure = Failure::new(FailureKind::Draining, message);
        end_job(state, turn, job, failure);
    }
    let at_work = state.fleet().iter().filter(|worker| !worker.is_idle());
    let late: Vec<Generation> = at_work.map(Worker::generation).collect();
    for worker in late {
        terminate_worker(state, turn, worker, StopReason::Drain);
    }
}

/// Stops the workers once no job is left, and exits once no worker is.
pub(crate) fn finish(state: &mut State, turn: &mut Turn) {
    let Phase::Leaving { since, .. } = state.phase() else {
        return;
    };
    if !state.jobs().is_empty() {
        return;
    }
    let left: Vec<Generation> = state.fleet().iter().map(Worker::generation).collect();
    for worker in left {
        end_worker(state, turn, worker, StopReason::Drain);
    }
    if state.fleet().is_empty() {
        orders::finish(state, turn);
        state.set_phase(Phase::Gone { since });
        turn.act(Action::Exit);
    }
}
