//! Workers that have been idle, or without progress, for long enough.

use ipc_protocol::ids::Generation;

use crate::state::State;
use crate::state::watch::ProgressLimits;
use crate::state::worker::{Overdue, Worker};
use crate::words::moment::Moment;
use crate::words::registry::ModelId;

/// When a model's least recently used worker has been idle for long enough.
pub(crate) fn shrinks_at(state: &State, id: ModelId) -> Option<Moment> {
    let model = state.model(id);
    let since = model.idle_since()?;
    let spare = state.fleet().live(id).count() > model.floor(state.settings());
    spare.then_some(since + state.settings().idle)
}

/// All workers of a model are idle, there is at least one, and no job waits.
pub(crate) fn is_idle(state: &State, id: ModelId) -> bool {
    let mut live = state.fleet().live(id);
    state.fleet().has_live(id) && live.all(Worker::is_idle) && state.jobs().queue(id).is_empty()
}

/// The deadline of a worker, and what to do then.
pub(crate) fn overdue(state: &State, worker: &Worker) -> (Moment, Overdue) {
    worker.deadline(
        &state.settings().patience,
        &limits(state, worker),
        state.now(),
    )
}

/// The workers whose deadline has passed, oldest first.
pub(crate) fn late(state: &State, now: Moment) -> Vec<(Generation, Overdue)> {
    let all = state.fleet().iter();
    let due = all.map(|worker| (worker.generation(), overdue(state, worker)));
    let late = due.filter(|(_, (at, _))| *at <= now);
    late.map(|(id, (_, what))| (id, what)).collect()
}

/// How long a worker may go without progress.
pub(crate) fn limits(state: &State, worker: &Worker) -> ProgressLimits {
    let model = state.model(worker.model());
    let (patience, device) = (&state.settings().patience, worker.device());
    match worker.attempt_at_work() {
        Some(attempt) => model.limits(patience, device, attempt),
        None if worker.is_starting() => ProgressLimits::before_hello(patience),
        None => model.load_limits(patience, device),
    }
}
