//! Ends requests that wait for files without jobs.

use ipc_protocol::failure::{Failure, FailureKind};

use crate::state::State;
use crate::words::action::Action;
use crate::words::event::Ticket;
use crate::words::registry::ModelId;
use crate::words::turn::Turn;

/// Refuses the request of a conversation, and stops the fetch if no other request waits for it.
pub(crate) fn refuse_waiting(state: &mut State, turn: &mut Turn, ticket: Ticket, failure: Failure) {
    let Some((model, _)) = state.requests_mut().take(ticket) else {
        return turn.defect(format!(
            "request {} is to be refused and does not wait",
            ticket.0
        ));
    };
    turn.refuse(ticket, failure);
    if !state.requests().waits_for(model) {
        stop_fetch(state, turn, model);
    }
}

/// Refuses every request that waits for the files of a model.
pub(crate) fn refuse_all_of(state: &mut State, turn: &mut Turn, id: ModelId, failure: &Failure) {
    while let Some(request) = state.requests_mut().take_oldest(id) {
        turn.refuse(request.ticket(), failure.clone());
    }
}

/// Refuses every request that waits for the files of a model, and stops their fetch.
pub(crate) fn end_fetch(state: &mut State, turn: &mut Turn, id: ModelId, failure: &Failure) {
    refuse_all_of(state, turn, id, failure);
    stop_fetch(state, turn, id);
}

/// Stops a fetch that no request waits for.
fn stop_fetch(state: &State, turn: &mut Turn, id: ModelId) {
    let model = state.model(id).spec().key.clone();
    turn.act(Action::StopFetch { model });
}

/// The answer of what `by` cancelled.
pub(crate) fn cancelled_by(by: &str) -> Failure {
    Failure::new(FailureKind::Cancelled, format!("cancelled by {by}"))
}
