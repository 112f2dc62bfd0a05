//! The waiting jobs of a model that no worker serves, and the workers that can take a job.

use ipc_protocol::ids::{DeviceConstraint, Generation, JobId};

use crate::questions::standing::is_full;
use crate::state::State;
use crate::state::model::Standing;
use crate::state::queue::QueueRule;
use crate::state::record::RestartVerdict;
use crate::state::worker::Worker;
use crate::words::moment::Moment;
use crate::words::registry::ModelId;

/// Where a new worker of a model would have to run for a waiting job that no live worker serves; `None` if
/// there is no such job or no worker may start.
pub(crate) fn unserved_device(state: &State, id: ModelId, now: Moment) -> Option<DeviceConstraint> {
    if !state.model(id).standing(now).may_start() {
        return None;
    }
    let first = match state.fleet().has_live(id) {
        true => unserved(state, id).next()?,
        false => state.jobs().queue(id).oldest()?,
    };
    state.jobs().get(first).map(|job| job.device())
}

/// The waiting jobs that may run only on a device on which their model has no live worker. Oldest first.
pub(crate) fn unserved(state: &State, id: ModelId) -> impl Iterator<Item = JobId> {
    let served = move |device| state.fleet().live(id).any(|worker| worker.serves(device));
    let waiting = state.jobs().constrained(id);
    waiting.filter(move |&job| {
        let job = state.jobs().get(job);
        job.is_some_and(|job| !served(job.device()))
    })
}

/// Returns the unserved jobs of a model for which no further worker may be started now.
pub(crate) fn stranded(state: &State, id: ModelId, now: Moment) -> impl Iterator<Item = JobId> {
    let full = state.jobs().has_constrained(id)
        && is_full(state, id, now)
        && unserved_device(state, id, now).is_some();
    unserved(state, id).take_while(move |_| full)
}

/// The oldest waiting job that a worker could run.
pub(crate) fn oldest_for(state: &State, worker: &Worker) -> Option<JobId> {
    let mut waiting = state.jobs().queue(worker.model()).iter();
    waiting.find(|&job| {
        let job = state.jobs().get(job);
        job.is_some_and(|job| worker.serves(job.device()))
    })
}

/// The idle workers of a model that may take a job now if one waits, longest idle first.
pub(crate) fn offering(state: &State, id: ModelId, now: Moment) -> Vec<Generation> {
    match state.jobs().queue(id).is_empty() {
        true => Vec::new(),
        false => takers(state, id, now),
    }
}

/// The idle workers of a model that would take a job if one waited.
pub(crate) fn takers(state: &State, id: ModelId, now: Moment) -> Vec<Generation> {
    let most = match state.model(id).standing(now) {
        Standing::Tried(
            RestartVerdict::Go | RestartVerdict::BackOff(_) | RestartVerdict::Cool(_),
        ) => usize::MAX,
        // A probe runs alone, so that one failure is one failure.
        Standing::Tried(RestartVerdict::Probe) => {
            let mut live = state.fleet().live(id);
            usize::from(live.all(|worker| worker.attempt().is_none()))
        }
        Standing::Tried(RestartVerdict::Open(..))
        | Standing::Missing(_)
        | Standing::Broken(_)
        | Standing::Unread
        | Standing::Stopped => 0,
    };
    let live = state.fleet().live(id);
    let idle = live.filter(|worker| worker.is_idle() && !worker.is_outdated());
    let mut idle: Vec<_> = idle
        .map(|worker| (worker.since(), worker.generation()))
        .collect();
    idle.sort();
    idle.into_iter()
        .map(|(_, worker)| worker)
        .take(most)
        .collect()
}

/// How the next job of a queue is chosen.
pub(crate) fn rule(state: &State) -> QueueRule {
    match state.settings().fifo {
        true => QueueRule::Arrival,
        false => QueueRule::Shares(state.settings().max_overtakes),
    }
}

/// When the oldest waiting job has waited long enough for one more worker.
pub(crate) fn grows_at(state: &State, id: ModelId) -> Option<Moment> {
    let oldest = state.jobs().get(state.jobs().queue(id).oldest()?)?;
    Some(oldest.waiting_since()? + state.settings().grow_after)
}

/// The job was overtaken as often, or has waited as long, as the settings allow.
pub(crate) fn is_due(state: &State, job: JobId, now: Moment) -> bool {
    let settings = state.settings();
    state.jobs().get(job).is_some_and(|job| {
        settings.fifo
            || job.overtaken() >= settings.max_overtakes
            || now >= job.accepted() + settings.max_overtake
    })
}

/// When the oldest job of a model that lacks memory has waited as long as the settings allow.
pub(crate) fn due_at(state: &State, id: ModelId) -> Option<Moment> {
    if state.model(id).lacks().is_empty() {
        return None;
    }
    let oldest = state.jobs().get(state.jobs().queue(id).oldest()?)?;
    Some(oldest.accepted() + state.settings().max_overtake)
}
