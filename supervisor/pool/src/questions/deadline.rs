//! When the pool next has to act without an event.

use crate::questions::idle::{overdue, shrinks_at};
use crate::questions::waiting::{due_at, grows_at};
use crate::state::State;
use crate::state::phase::Phase;
use crate::words::moment::Moment;
use crate::words::registry::ModelId;

/// Returns the next deadline, if there is one.
pub(crate) fn next(state: &State) -> Option<Moment> {
    let workers = state.fleet().iter().map(|worker| overdue(state, worker).0);
    let job = state.jobs().next_timer().map(|(at, _)| at);
    let others = [
        job,
        state.budget().deadline(),
        drains_at(state),
        state.yields_until(),
        state.truces().deadline(),
    ];
    let models = state.model_ids().filter_map(|id| wakes_at(state, id));
    workers
        .chain(others.into_iter().flatten())
        .chain(models)
        .min()
}

/// When the jobs that are left fail because the pool shuts down.
pub(crate) fn drains_at(state: &State) -> Option<Moment> {
    match state.phase() {
        Phase::Leaving { until, .. } if !state.jobs().is_empty() => Some(until),
        Phase::Leaving { .. } | Phase::Serving | Phase::Refusing { .. } | Phase::Gone { .. } => {
            None
        }
    }
}

/// The next moment after the last event at which a decision about a model changes without an event. Moments
/// before are of no interest: every event decides anew.
fn wakes_at(state: &State, id: ModelId) -> Option<Moment> {
    let (model, now) = (state.model(id), state.now());
    let mut moments = [shrinks_at(state, id), None, None, None];
    let waits = !state.jobs().queue(id).is_empty();
    if waits || model.floor(state.settings()) > 0 {
        moments[1] = model.record().changes_at(now);
    }
    if waits {
        moments[2] = grows_at(state, id).filter(|&at| at > now);
        moments[3] = due_at(state, id).filter(|&at| at > now);
    }
    moments.into_iter().flatten().min()
}
