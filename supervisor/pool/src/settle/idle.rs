//! Stops workers that have nothing to do.

use ipc_protocol::ids::Generation;

use crate::questions::idle::{is_idle, shrinks_at};
use crate::state::State;
use crate::state::worker::Worker;
use crate::steps::end_worker::end_worker;
use crate::words::reasons::StopReason;
use crate::words::registry::ModelId;
use crate::words::turn::Turn;

/// Keeps for every model the moment since when all its workers are idle.
pub(crate) fn note_idle(state: &mut State, turn: &Turn) {
    for id in state.model_ids() {
        let idle = is_idle(state, id);
        state.model_mut(id).note_idle(idle, turn.now());
    }
}

/// Stops one worker of every model that has been idle for long enough.
pub(crate) fn shrink(state: &mut State, turn: &mut Turn) {
    for id in state.model_ids() {
        if shrinks_at(state, id).is_none_or(|at| at > turn.now()) {
            continue;
        }
        let live = state.fleet().live(id);
        let oldest = live.min_by_key(|worker| (worker.since(), worker.generation()));
        let Some(oldest) = oldest.map(Worker::generation) else {
            turn.defect("a model without workers is due to lose one");
            continue;
        };
        end_worker(state, turn, oldest, StopReason::Idle);
        state.model_mut(id).note_shrunk(turn.now());
    }
}

/// Stops workers that load for no waiting job, after a client stopped waiting for the model. One of them continues
/// to load, so that the next request finds the model ready. It is evicted if another model needs its memory, and
/// stops when idle like any other worker.
pub(crate) fn abandon_loads(state: &mut State, turn: &mut Turn, id: ModelId) {
    if !state.jobs().queue(id).is_empty() {
        return;
    }
    let floor = state.model(id).floor(state.settings());
    let live = state.fleet().live(id).count();
    let coming: Vec<Generation> = state
        .fleet()
        .live(id)
        .filter(|worker| worker.is_coming())
        .map(Worker::generation)
        .collect();
    let beyond_floor = live.saturating_sub(floor);
    let beyond_one = coming.len().saturating_sub(1);
    for worker in coming.into_iter().rev().take(beyond_floor.min(beyond_one)) {
        end_worker(state, turn, worker, StopReason::Abandoned);
    }
}
