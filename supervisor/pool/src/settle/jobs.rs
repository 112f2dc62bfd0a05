//! Gives waiting jobs to idle workers, or fails them.

use ipc_protocol::ids::{Generation, JobId};
use ipc_protocol::units::Mebibytes;

use crate::questions::overtaking::{barriers, lacks_of, next_for};
use crate::questions::room::{self, Room};
use crate::questions::standing::{ends_accepted_jobs, refusal};
use crate::questions::waiting::offering;
use crate::state::State;
use crate::steps::end_job::end_job;
use crate::steps::end_worker::evict;
use crate::steps::run::run;
use crate::words::registry::ModelId;
use crate::words::turn::Turn;

/// Fails the waiting jobs of models that cannot serve now and have no live worker. Those of a model that failed too
/// often wait until it may be tried again.
pub(crate) fn fail_hopeless(state: &mut State, turn: &mut Turn) {
    for id in state.model_ids() {
        if state.jobs().queue(id).is_empty() || state.fleet().has_live(id) {
            continue;
        }
        let Some(failure) = refusal(state, id, turn.now()).filter(ends_accepted_jobs) else {
            continue;
        };
        for job in state.jobs().queue(id).iter().collect::<Vec<JobId>>() {
            end_job(state, turn, job, failure.clone());
        }
    }
}

/// Notes for every model the memory that it lacks and others hold.
pub(crate) fn note_lacks(state: &mut State, turn: &Turn) {
    for id in state.model_ids() {
        let lacks = lacks_of(state, id, turn.now());
        state.model_mut(id).set_lacks(lacks);
    }
}

/// Gives waiting jobs to idle workers: first those that need no eviction, then the others.
pub(crate) fn run_waiting(state: &mut State, turn: &mut Turn) {
    for may_evict in [false, true] {
        for id in state.model_ids() {
            for worker in offering(state, id, turn.now()) {
                offer(state, turn, id, worker, may_evict);
            }
        }
    }
}

/// Offers the queue of a model to one of its idle workers.
fn offer(state: &mut State, turn: &mut Turn, id: ModelId, worker: Generation, may_evict: bool) {
    // Computed anew for each worker: the start before this one may have made a job due.
    let barriers = barriers(state, turn.now());
    while let Some(to) = state.fleet().get(worker).filter(|worker| worker.is_idle())
        && let Some(job) = next_for(state, to, &barriers)
        && let Some(waiting) = state.jobs().get(job)
    {
        let size = waiting.parameters().size;
        let (amount, room) = room::for_picture(state, to, waiting);
        match room {
            Room::Free => {
                run(state, turn, worker, job, amount);
                if amount.total() > Mebibytes::ZERO {
                    // A model that would have had memory before may lack it now.
                    note_lacks(state, turn);
                }
                return;
            }
            Room::Evict(victims) if may_evict => return evict(state, turn, id, &victims),
            Room::Evict(_) | Room::Leaving | Room::Later => return,
            Room::Never(short) => {
                let failure = room::never_fits(state, id, size, short);
                end_job(state, turn, job, failure);
            }
        }
    }
}
