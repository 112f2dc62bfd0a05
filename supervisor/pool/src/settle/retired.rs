//! Ends the workers of models that are no longer offered, once no job needs them.

use ipc_protocol::ids::Generation;

use crate::state::State;
use crate::state::worker::Worker;
use crate::steps::end_worker::end_worker;
use crate::words::reasons::StopReason;
use crate::words::turn::Turn;

/// Stops the workers without a job of each model that is no longer offered and for which no job waits.
pub(crate) fn end_unneeded(state: &mut State, turn: &mut Turn) {
    for id in state.model_ids() {
        if !state.model(id).wanted().is_retired() || !state.jobs().queue(id).is_empty() {
            continue;
        }
        let live = state.fleet().live(id);
        let jobless = live.filter(|worker| worker.job_at_hand().is_none());
        for worker in jobless.map(Worker::generation).collect::<Vec<Generation>>() {
            end_worker(state, turn, worker, StopReason::Outdated);
        }
    }
}
