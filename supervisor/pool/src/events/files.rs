//! The end of a look at a model's files, or of their fetch, for the requests that wait for it.

use ipc_protocol::failure::Failure;
use ipc_protocol::ids::{JobId, ModelKey};

use crate::events::request::{enter, place};
use crate::questions::admission::admit_to;
use crate::state::State;
use crate::steps::end_request::refuse_all_of;
use crate::words::registry::ModelId;
use crate::words::turn::Turn;

/// The registry says what the files of a model are: its requests enter as if they came now, each or not at all.
/// They wait once: where the files still cannot be used they are refused.
pub(crate) fn arrived(state: &mut State, turn: &mut Turn, key: &ModelKey) {
    let Some(id) = waited_for(state, key) else {
        return;
    };
    let mut entered: Vec<JobId> = Vec::new();
    while let Some(waiting) = state.requests_mut().take_oldest(id) {
        let (asked, jobs, cancelled) = waiting.into_parts();
        match admit_to(state, turn.now(), id, &asked) {
            Ok(admitted) => {
                entered.extend(&jobs);
                enter(state, turn, &admitted, &asked, jobs, &cancelled);
            }
            Err(failure) => turn.refuse(asked.ticket, failure),
        }
    }
    place(state, turn, &entered);
}

/// The files of a model could not be looked at or fetched.
pub(crate) fn failed(state: &mut State, turn: &mut Turn, key: &ModelKey, failure: &Failure) {
    if let Some(id) = waited_for(state, key) {
        refuse_all_of(state, turn, id, failure);
    }
}

/// The model with this key, if requests wait for its files.
fn waited_for(state: &State, key: &ModelKey) -> Option<ModelId> {
    let mut waited_for = state.requests().models();
    waited_for.find(|&id| state.model(id).spec().key == *key)
}
