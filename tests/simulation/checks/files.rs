//! Requests wait for the files of their model once and hold places; one fetch serves all of them.

use ipc_protocol::failure::{Failure, FailureKind, Field};
use ipc_protocol::ids::{JobId, ModelKey};
use pool::{AcceptedJobs, Action, Drain, Event, Files, ModelSpec, Moment, Ticket};

use super::CheckResult;
use super::failures::ModelFailures;
use super::refusals::{self, is_full};
use super::standing::ModelStanding;
use crate::observed::{AskedRequest, AwaitingRequest, ObservedPool};
use crate::oracle::{Oracle, most_images, parameters};

pub(super) fn check(
    observed: &ObservedPool,
    failures: &ModelFailures,
    oracle: &Oracle,
    (now, event): (Moment, &Event),
    action: &Action,
) -> CheckResult {
    match action {
        Action::AwaitFiles {
            ticket,
            model,
            jobs,
        } => check_wait(observed, failures, oracle, now, *ticket, (model, jobs)),
        Action::Fetch { model } => check_fetch(observed, model),
        Action::StopFetch { model } => check_stop(observed, model),
        Action::Accept(accepted) => {
            check_turn(observed, accepted.ticket).and_then(|()| keeps_ids(observed, accepted))
        }
        Action::Refuse { ticket, failure } => {
            check_turn_of_event(observed, event, *ticket)?;
            match observed.awaiting_of(*ticket) {
                Some(waiting) => check_end(observed, event, waiting, failure),
                None => Ok(()),
            }
        }
        Action::Run(run) => match observed.jobs.get(&run.job) {
            Some(record) if record.cancelled.is_some() => {
                Err(format!("job {} runs and was cancelled before", run.job))
            }
            Some(_) | None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// A request waits if the files of its model may let it in, nothing else keeps it out, and there is a place for it.
fn check_wait(
    observed: &ObservedPool,
    failures: &ModelFailures,
    oracle: &Oracle,
    now: Moment,
    ticket: Ticket,
    (key, jobs): (&ModelKey, &[JobId]),
) -> CheckResult {
    let asked = observed.asked.as_ref();
    let Some(asked) = asked.filter(|asked| asked.ticket == ticket) else {
        return Err(format!("{ticket:?} waits for files and did not ask"));
    };
    let ids = (observed.last_job.0 + 1..).take(asked.request.count as usize);
    let model = observed.models.get(key);
    let Some(model) = model.filter(|_| observed.model_for(asked) == Some(key)) else {
        return Err(format!("{asked:?} waits for the files of {key}"));
    };
    let wrong = match () {
        () if !ids.eq(jobs.iter().map(|job| job.0)) => "other job ids, or another number of them",
        () if observed.draining => "a pool that drains",
        () if !may_be_valid(observed, &model.spec, asked) => "an invalid value",
        () if is_full(observed, key, asked, 0) => "no place left",
        () if !waits(observed, failures, now, key) => "files that are here",
        () if !mends(observed, failures, now, key) && model.spec.files.are_here() => {
            return refusals::check_entry(observed, failures, oracle, now, asked);
        }
        () => return Ok(()),
    };
    Err(format!(
        "{asked:?} waits for the files of {key} with {wrong}"
    ))
}

/// Whether the request is valid as far as that is known. What a model allows is known from its files.
fn may_be_valid(observed: &ObservedPool, spec: &ModelSpec, asked: &AskedRequest) -> bool {
    match &spec.files {
        Files::Broken(_) | Files::Unread => {
            asked.request.check().is_ok() && asked.request.count as usize <= most_images(observed)
        }
        Files::Here { .. } | Files::Missing(_) => {
            parameters(observed, spec, &asked.request, asked.entropy).is_some()
        }
    }
}

/// Whether a valid request of a model has to wait for files, or for others that do.
pub(super) fn waits(
    observed: &ObservedPool,
    failures: &ModelFailures,
    now: Moment,
    key: &ModelKey,
) -> bool {
    !observed.models[key].spec.files.are_here()
        || mends(observed, failures, now, key)
        || observed.awaiting(key).next().is_some()
}

/// Whether files that could not be loaded may have been mended since.
fn mends(observed: &ObservedPool, failures: &ModelFailures, now: Moment, key: &ModelKey) -> bool {
    let standing = failures.standing(observed, key, now);
    matches!(standing, ModelStanding::Cooling(_))
        && failures.is_to_mend(key)
        && observed.live(key).next().is_none()
}

fn check_fetch(observed: &ObservedPool, model: &ModelKey) -> CheckResult {
    let waiting = observed.awaiting(model).count();
    match (observed.fetching.contains(model), waiting) {
        (false, 1) => Ok(()),
        (fetching, waiting) => Err(format!(
            "a fetch of {model}, for which {waiting} wait and which is fetched already: {fetching}"
        )),
    }
}

fn check_stop(observed: &ObservedPool, model: &ModelKey) -> CheckResult {
    let waiting = observed.awaiting(model).count();
    match (observed.fetching.contains(model), waiting) {
        (true, 0) => Ok(()),
        (fetching, waiting) => Err(format!(
            "the fetch of {model} stops, for which {waiting} wait and which is fetched: {fetching}"
        )),
    }
}

/// A request that waited enters in its turn.
fn check_turn(observed: &ObservedPool, ticket: Ticket) -> CheckResult {
    let Some(waiting) = observed.awaiting_of(ticket) else {
        return Ok(());
    };
    let first = observed.awaiting(&waiting.model).next();
    match first.is_some_and(|first| first.asked.ticket == ticket) {
        true => Ok(()),
        false => Err(format!("{ticket:?} has its reply before {first:?}")),
    }
}

/// Requests that the same event decides about are decided in their order.
fn check_turn_of_event(observed: &ObservedPool, event: &Event, ticket: Ticket) -> CheckResult {
    match event {
        Event::FilesArrived { .. } | Event::FilesFailed { .. } => check_turn(observed, ticket),
        _ => Ok(()),
    }
}

fn keeps_ids(observed: &ObservedPool, accepted: &AcceptedJobs) -> CheckResult {
    let Some(waiting) = observed.awaiting_of(accepted.ticket) else {
        return Ok(());
    };
    match waiting.model == accepted.model && waiting.jobs.keys().eq(&accepted.jobs) {
        true => Ok(()),
        false => Err(format!("{accepted:?} should be what waited: {waiting:?}")),
    }
}

/// A request that waits ends without jobs for a reason that the event gives.
fn check_end(
    observed: &ObservedPool,
    event: &Event,
    waiting: &AwaitingRequest,
    failure: &Failure,
) -> CheckResult {
    let key = &waiting.model;
    let right = match event {
        // `refusals` knows the reasons.
        Event::FilesArrived { model } => model == key,
        Event::FilesFailed {
            model,
            failure: why,
        } => model == key && failure == why,
        Event::RequestCancelled { job, by } => {
            waiting.jobs.contains_key(job)
                && waiting.wanted().next().is_none()
                && is_cancelled_by(failure, by)
        }
        Event::ClientGone { ticket } => {
            *ticket == waiting.asked.ticket
                && !waiting.asked.request.detached
                && is_cancelled_by(failure, "the client")
        }
        Event::DrainRequested { drain, .. } => {
            *drain != Drain::Undo && failure.kind == FailureKind::Draining
        }
        Event::ModelsChanged { .. } => {
            !observed.models[key].offered
                && failure.kind == FailureKind::UnknownModel
                && failure.field == Some(Field::Model)
                && failure.message.contains(key.as_str())
        }
        _ => false,
    };
    match right {
        true => Ok(()),
        false => Err(format!(
            "{waiting:?} is refused with {failure:?} after {event:?}"
        )),
    }
}

fn is_cancelled_by(failure: &Failure, by: &str) -> bool {
    failure.kind == FailureKind::Cancelled && failure.message.contains(by)
}

/// No request waits longer than it should, and exactly those files are fetched that requests wait for.
pub(super) fn check_event(observed: &ObservedPool, event: &Event) -> CheckResult {
    let stays = |waiting: &&AwaitingRequest| {
        let ended = match event {
            Event::FilesArrived { model } | Event::FilesFailed { model, .. } => {
                *model == waiting.model
            }
            Event::ClientGone { ticket } => {
                *ticket == waiting.asked.ticket && !waiting.asked.request.detached
            }
            _ => false,
        };
        let offered = observed.models[&waiting.model].offered;
        ended || observed.draining || !offered || waiting.wanted().next().is_none()
    };
    if let Some(waiting) = observed.requests.values().find(stays) {
        return Err(format!("{waiting:?} still waits for files"));
    }
    let cancelled = observed
        .jobs
        .iter()
        .find(|(_, record)| record.cancelled.is_some());
    if let Some((job, record)) = cancelled {
        return Err(format!(
            "job {job} was cancelled before and has no answer: {record:?}"
        ));
    }
    let wanted = observed.requests.values().map(|waiting| &waiting.model);
    let mut wanted: Vec<&ModelKey> = wanted.collect();
    wanted.sort();
    wanted.dedup();
    match observed.fetching.iter().eq(wanted.iter().copied()) {
        true => Ok(()),
        false => Err(format!(
            "{:?} are fetched, and requests wait for {wanted:?}",
            observed.fetching
        )),
    }
}
