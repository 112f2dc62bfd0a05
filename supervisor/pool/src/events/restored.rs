//! The memory of an earlier daemon.

use crate::events::request::decide;
use crate::state::State;
use crate::state::quarantine::{Fingerprint, QuarantineEvidence};
use crate::words::event::Ticket;
use crate::words::lasting::{MeasuredNeed, QuarantinedRequest};
use crate::words::new_request::{AcceptedBefore, NewRequest};
use crate::words::past::RestoredJob;
use crate::words::turn::Turn;

/// A job that was accepted: it becomes a job again, waits for the files of its model, or is refused.
pub(crate) fn job(state: &mut State, turn: &mut Turn, ticket: Ticket, restored: RestoredJob) {
    state.jobs_mut().note_used(restored.job);
    let asked = NewRequest {
        ticket,
        request: restored.request,
        user: restored.user,
        entropy: 0,
        before: Some(AcceptedBefore {
            digest: restored.digest,
            past: restored.past,
        }),
    };
    decide(state, turn, asked, Some(restored.job));
}

/// A request that is in quarantine, for the rest of its time.
pub(crate) fn quarantine(state: &mut State, turn: &mut Turn, request: QuarantinedRequest) {
    let lasts = state.settings().quarantine;
    let (user, deaths) = (request.user.clone(), request.deaths.clone());
    let evidence = QuarantineEvidence::new(turn.now(), user, deaths).aged(request.age);
    let fingerprint = Fingerprint::restored(request);
    state.quarantine_mut().keep(fingerprint, evidence, lasts);
}

/// The memory that workers of a model were seen to hold, unless its files are known to be others now.
pub(crate) fn need(state: &mut State, need: &MeasuredNeed) {
    let Some(id) = state.find_model(need.model.as_str()) else {
        return;
    };
    let model = state.model_mut(id);
    if !model.spec().differs_from(&need.digest) {
        model.observed_mut().recall(need);
    }
}
