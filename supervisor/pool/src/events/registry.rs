//! The registry, read again under running workers.

use ipc_protocol::ids::Generation;

use crate::questions::standing::not_offered;
use crate::state::State;
use crate::state::worker::Worker;
use crate::steps::end_request::end_fetch;
use crate::steps::end_worker::outdate;
use crate::words::registry::{ModelId, Registry};
use crate::words::turn::Turn;

/// The registry was read again. Workers of a model that changed finish their job and exit. A model that is gone from it
/// takes nothing new, and its workers finish every job that was accepted.
pub(crate) fn changed(state: &mut State, turn: &mut Turn, registry: &Registry) {
    for id in state.model_ids() {
        let model = state.model_mut(id);
        let new = registry.iter().find(|spec| spec.key == model.spec().key);
        let outdated = new.is_some_and(|new| model.spec().needs_new_workers(new));
        let is_back = new.is_some() && model.wanted().is_retired();
        model.update(new);
        if outdated || is_back {
            model.record_mut().forgive();
        }
        if outdated {
            let workers = state.fleet().of(id).map(Worker::generation);
            for worker in workers.collect::<Vec<Generation>>() {
                outdate(state, turn, worker);
            }
        }
    }
    refuse_for_retired(state, turn);
    for spec in registry.iter() {
        if !state.models().any(|model| model.spec().key == spec.key) {
            state.add_model(spec.clone());
        }
    }
}

/// Refuses requests that wait for the files of a model that is no longer offered: nothing of them is accepted yet.
fn refuse_for_retired(state: &mut State, turn: &mut Turn) {
    for id in state.requests().models().collect::<Vec<ModelId>>() {
        if state.model(id).wanted().is_retired() {
            let failure = not_offered(state, id);
            end_fetch(state, turn, id, &failure);
        }
    }
}
