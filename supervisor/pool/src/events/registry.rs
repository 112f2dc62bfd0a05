//! The registry, read again under running workers.

use ipc_protocol::ids::Generation;

use crate::questions::standing::refusal;
use crate::state::State;
use crate::state::worker::Worker;
use crate::steps::end_request::end_fetch;
use crate::steps::end_worker::outdate;
use crate::words::registry::{Files, ModelId, ModelSpec, Registry};
use crate::words::turn::Turn;

/// The registry was read again. Workers of a model that changed or is gone finish their job and exit.
pub(crate) fn changed(state: &mut State, turn: &mut Turn, registry: &Registry) {
    for id in state.model_ids() {
        let model = state.model_mut(id);
        let new = registry.iter().find(|spec| spec.key == model.spec().key);
        let outdated = new.is_none_or(|new| needs_new_workers(model.spec(), new));
        model.update(new);
        if outdated {
            model.record_mut().forgive();
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

/// Refuses requests that wait for the files of a model that is no longer offered.
fn refuse_for_retired(state: &mut State, turn: &mut Turn) {
    for id in state.requests().models().collect::<Vec<ModelId>>() {
        if state.model(id).wanted().is_retired()
            && let Some(failure) = refusal(state, id, turn.now())
        {
            end_fetch(state, turn, id, &failure);
        }
    }
}

/// Whether two looks found the same files. A digest may be known later than the files are.
fn same_files(old: &ModelSpec, new: &ModelSpec) -> bool {
    match (&old.files, &new.files) {
        (Files::Here { stamp: old }, Files::Here { stamp: new })
            if !old.is_empty() && !new.is_empty() =>
        {
            old == new
        }
        (one, other) => one == other && old.digest == new.digest,
    }
}

/// A worker made for `old` cannot serve `new`.
fn needs_new_workers(old: &ModelSpec, new: &ModelSpec) -> bool {
    old.family != new.family
        || old.need != new.need
        || !same_files(old, new)
        || old.params != new.params
        || old.device != new.device
        || old.sizes.max < new.sizes.max
}
