//! Exactly those requests are refused that the observed records say must be.

use std::time::Duration;

use ipc_protocol::failure::{Failure, FailureKind, Field};
use ipc_protocol::ids::{Device, DeviceConstraint, JobId, ModelKey};
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::PictureSize;
use pool::{AcceptedJobs, Action, Event, Files, Moment, Outcome, Parameters};

use super::CheckResult;
use super::failures::ModelFailures;
use super::files;
use super::refusal_words::{
    is_no_number, names_field, names_files, names_nearest, says_sums, says_when,
};
use super::standing::ModelStanding;
use crate::observed::{AskedRequest, JobRecord, ModelRecord, ObservedPool, WorkerLoss};
use crate::oracle::{Oracle, has_trouble, jobs_per_hour, parameters};

pub(super) fn check(
    observed: &ObservedPool,
    failures: &ModelFailures,
    oracle: &Oracle,
    (now, event): (Moment, &Event),
    action: &Action,
) -> CheckResult {
    match action {
        Action::Refuse { ticket, failure } => match observed.judged(event, *ticket) {
            Some(asked) => refused(observed, failures, oracle, now, asked, failure),
            None => Ok(()),
        },
        Action::Accept(accepted) => match observed.judged(event, accepted.ticket) {
            Some(asked) => entered(observed, failures, now, asked, accepted),
            None => Ok(()),
        },
        Action::Answer {
            job,
            outcome: Outcome::Failure(failure),
        } => match observed.jobs.get(job) {
            Some(record) => failed(observed, failures, *job, record, failure),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// A failure says what it is about, and a job that had room does not end for lack of it.
fn failed(
    observed: &ObservedPool,
    failures: &ModelFailures,
    job: JobId,
    record: &JobRecord,
    failure: &Failure,
) -> CheckResult {
    let text = &failure.message;
    let model = &observed.models[&record.model];
    let names = |loss: &WorkerLoss| text.contains(&loss.worker) && text.contains(&loss.how);
    let right = match failure.kind {
        FailureKind::Quarantined if observed.consequence.lost_job() == Some(job) => {
            let last = record.losses.last().map_or(0, |last| last.step);
            record.accusing(last).all(names)
        }
        FailureKind::WorkerLost => {
            let count = format!(" {} times", record.losses.len());
            record.losses.iter().rev().take(3).all(names)
                && text.contains(&count)
                && failure.retry_after_ms.is_some()
        }
        FailureKind::MemoryExhausted if text.starts_with("ran out of memory") => {
            record.losses.last().is_some_and(names)
        }
        FailureKind::MemoryExhausted if observed.devices.len() == 1 && !observed.comes_back() => {
            let need = observed.need(model, Device::Host).unwrap_or_default();
            let best = observed.at_best(Device::Host, &observed.staying());
            need.values().any(|&part| part > best) && text.contains(record.model.as_str())
        }
        FailureKind::LoadRefused if failures.gave_up(&record.model) => {
            let mut live = observed.live(&record.model);
            text.contains(record.model.as_str())
                && text.contains("ended before they were ready")
                && !live.any(|(_, process)| process.is_resident())
        }
        FailureKind::Stopped
        | FailureKind::ModelMissing
        | FailureKind::ModelUnusable
        | FailureKind::ModelUnread
        | FailureKind::LoadRefused => {
            text.contains(record.model.as_str()) && observed.live(&record.model).next().is_none()
        }
        FailureKind::UnknownModel => {
            text.contains(record.model.as_str()) && failure.field == Some(Field::Model)
        }
        FailureKind::NeverFits => text.contains(&record.parameters.size.to_string()),
        FailureKind::Cancelled => match &record.cancelled {
            Some(by) => text.contains(by),
            None => !text.is_empty(),
        },
        _ => !text.is_empty(),
    };
    match right {
        true => Ok(()),
        false => Err(format!("a job ends with {failure:?}: {record:?}")),
    }
}

/// Checks that no request that must be refused was accepted.
fn entered(
    observed: &ObservedPool,
    failures: &ModelFailures,
    now: Moment,
    asked: &AskedRequest,
    accepted: &AcceptedJobs,
) -> CheckResult {
    let key = &accepted.model;
    let waited = observed.awaiting_of(asked.ticket).is_some();
    if !waited && observed.awaiting(key).next().is_some() {
        return Err(format!("let in before the requests that wait for {key}"));
    }
    let idle = observed.live(key).filter(|(_, process)| process.is_idle());
    if is_full(observed, key, asked, idle.count()) {
        return Err(format!(
            "let in {} of {key}, for which no place is left",
            asked.request.count
        ));
    }
    if opens_in(observed, now, asked).is_some() {
        return Err(format!("let in {asked:?}, whose quota is full"));
    }
    let picture = (accepted.size, accepted.steps);
    may_enter(observed, failures, now, key, &asked.request, picture)
}

/// Checks that a request whose files are here waits only for others: nothing else keeps it out.
pub(super) fn check_entry(
    observed: &ObservedPool,
    failures: &ModelFailures,
    oracle: &Oracle,
    now: Moment,
    asked: &AskedRequest,
) -> CheckResult {
    let request = &asked.request;
    let Some(key) = observed.model_for(asked) else {
        return Err(format!("{asked:?} waits, and its model is unknown"));
    };
    let spec = &observed.models[key].spec;
    let Some(parameters) = parameters(observed, spec, request, asked.entropy) else {
        return Err(format!("{asked:?} waits, and is invalid"));
    };
    if oracle.is_quarantined(observed, now, key, &parameters) {
        return Err(format!("{asked:?} waits, and is in quarantine"));
    }
    let picture = (parameters.size, parameters.steps);
    may_enter(observed, failures, now, key, request, picture)
}

/// When the quota of a user has room for a request: `None` if it has, or never will.
fn opens_in(observed: &ObservedPool, now: Moment, asked: &AskedRequest) -> Option<Duration> {
    const HOUR: Duration = Duration::from_secs(3600);
    let limit = jobs_per_hour(observed)?;
    let room = limit.checked_sub(asked.request.count)?;
    let jobs = observed.usage.get(&asked.user)?;
    let used = |at: Moment| -> u32 {
        let recent = jobs.iter().filter(|(since, _)| *since + HOUR > at);
        recent.map(|(_, count)| count).sum()
    };
    let moments = jobs.iter().map(|&(at, _)| at + HOUR);
    let opens = moments.filter(|&at| at > now).find(|&at| used(at) <= room);
    opens.filter(|_| used(now) > room).map(|at| at.since(now))
}

/// Whether the quota of the user is full, and the refusal says when it is open again.
fn says_quota(
    observed: &ObservedPool,
    now: Moment,
    asked: &AskedRequest,
    failure: &Failure,
) -> bool {
    let Some(left) = opens_in(observed, now, asked) else {
        return false;
    };
    let ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
    failure.retry_after_ms == Some(ms) && failure.message.contains(&asked.user)
}

/// Checks that a model takes jobs, that a picture of this size may have room, and that the time limit can be kept.
fn may_enter(
    observed: &ObservedPool,
    failures: &ModelFailures,
    now: Moment,
    key: &ModelKey,
    request: &ImageRequest,
    (size, steps): (PictureSize, u32),
) -> CheckResult {
    let model = &observed.models[key];
    let lives = observed.live(key).next().is_some();
    match failures.standing(observed, key, now) {
        ModelStanding::Missing | ModelStanding::Stopped | ModelStanding::Broken(..) => {
            return Err(format!(
                "let in while {key} is {:?}",
                failures.standing(observed, key, now)
            ));
        }
        ModelStanding::Cooling(_) if !lives => {
            return Err(format!("let in while {key} cannot load"));
        }
        ModelStanding::Cooling(_)
        | ModelStanding::BackOff(_)
        | ModelStanding::Probing
        | ModelStanding::Well => {}
    }
    let places = observed.places(model, request.device);
    // Where others hold much, it may become true later.
    let squeezed = observed.devices.keys().any(|&at| observed.is_squeezed(at));
    if !squeezed && !places.iter().any(|&at| observed.could_have(key, at, size)) {
        return Err(format!("let in {size} of {key}, which never fits"));
    }
    let least = least_time(observed, model, size.pixels(), steps);
    let limit = request.timeout_ms.map(Duration::from_millis);
    match limit.is_some_and(|limit| limit + Duration::from_millis(1) < least.0) {
        true => Err(format!("let in for {limit:?}, it takes {least:?}")),
        false => Ok(()),
    }
}

/// One more worker fits there once every worker that may leave has left. Memory that others take on one of
/// its devices, host memory of a GPU worker included, can come back at any time: it is no reason for "never".
fn starts(observed: &ObservedPool, model: &ModelRecord, at: Device) -> bool {
    let staying = observed.staying();
    let need = observed.need(model, at).unwrap_or_default();
    need.iter()
        .all(|(&on, &part)| observed.is_squeezed(on) || part <= observed.at_best(on, &staying))
}

/// Returns whether the queue is full for a request of which `at_once` jobs take no place. Other requests that wait for
/// files hold places.
pub(super) fn is_full(
    observed: &ObservedPool,
    key: &ModelKey,
    asked: &AskedRequest,
    at_once: usize,
) -> bool {
    let settings = &observed.settings;
    let more = (asked.request.count as usize).saturating_sub(at_once);
    let others = || {
        let all = observed.requests.values();
        all.filter(|waiting| waiting.asked.ticket != asked.ticket)
    };
    let own = others().filter(|waiting| waiting.model == *key);
    let places: usize = own.map(|waiting| waiting.jobs.len()).sum();
    let all_places: usize = others().map(|waiting| waiting.jobs.len()).sum();
    let texts: usize = others().map(|waiting| waiting.asked.text_bytes()).sum();
    let waits = || {
        observed
            .models
            .keys()
            .flat_map(|key| observed.waiting(key))
            .map(|(_, record)| record)
    };
    let held: usize = waits().map(|record| record.text_bytes()).sum();
    observed.waiting(key).count() + places + more > settings.queue_per_model
        || waits().count() + all_places + more > settings.queue_total
        || held + texts + asked.text_bytes() > settings.queue_bytes
}

/// Returns bounds of a picture's least time: the pool's estimate is between them.
fn least_time(
    observed: &ObservedPool,
    model: &ModelRecord,
    pixels: u64,
    steps: u32,
) -> (Duration, Duration) {
    let own = model.pace.picture(pixels, steps).unwrap_or_default();
    let resident = observed
        .live(&model.spec.key)
        .any(|(_, process)| process.is_resident());
    let load = model.pace.load.filter(|_| !resident).unwrap_or_default();
    (own.least + load.least / 2, own.most + load.most / 2)
}

/// A refusal is for the first reason there is, and says which: an unknown name, files that cannot be used, an invalid value,
/// and then the state of the model and of the pool.
fn refused(
    observed: &ObservedPool,
    failures: &ModelFailures,
    oracle: &Oracle,
    now: Moment,
    asked: &AskedRequest,
    failure: &Failure,
) -> CheckResult {
    let request = &asked.request;
    let Some(key) = observed.model_for(asked) else {
        let default = &observed.settings.default_model;
        let name = request.model.as_ref().unwrap_or(default);
        return names_nearest(observed, name, failure);
    };
    let model = &observed.models[key];
    let (spec, kind) = (&model.spec, failure.kind);
    let right = match (
        &spec.files,
        parameters(observed, spec, request, asked.entropy),
    ) {
        (Files::Here { .. }, Some(parameters)) => {
            let asked = (asked, &parameters);
            refused_by_pool(observed, failures, oracle, now, asked, model, failure)
        }
        (Files::Here { .. } | Files::Missing(_), None) => {
            kind == FailureKind::BadValue && names_field(observed, spec, request, failure)
        }
        (Files::Missing(_), Some(_)) => {
            refused_without_files(observed, failures, now, asked, model, failure)
        }
        // What a model allows is known from its files.
        (Files::Broken(_) | Files::Unread, _) => match kind {
            FailureKind::BadValue => is_no_number(observed, request, failure),
            _ => refused_without_files(observed, failures, now, asked, model, failure),
        },
    };
    match right {
        true => Ok(()),
        false => Err(format!("refused with {failure:?}: {request:?}")),
    }
}

/// Whether a request may be refused while the files of its model are not here: at once if there is no place in which it
/// could wait for them, later if they did not come.
fn refused_without_files(
    observed: &ObservedPool,
    failures: &ModelFailures,
    now: Moment,
    asked: &AskedRequest,
    model: &ModelRecord,
    failure: &Failure,
) -> bool {
    let key = &model.spec.key;
    let waited = observed.awaiting_of(asked.ticket).is_some();
    match failure.kind {
        FailureKind::Draining => observed.draining,
        FailureKind::QuotaExceeded => says_quota(observed, now, asked, failure),
        FailureKind::QueueFull => {
            !waited && is_full(observed, key, asked, 0) && says_retry(observed, now, model, failure)
        }
        FailureKind::ModelMissing | FailureKind::ModelUnusable | FailureKind::ModelUnread => {
            waited
                && has_trouble(observed, failures, now, key, failure.kind)
                && names_files(&model.spec, failure)
        }
        _ => false,
    }
}

/// Whether a valid request may be refused for the state of its model, whose files are here, or of the pool.
fn refused_by_pool(
    observed: &ObservedPool,
    failures: &ModelFailures,
    oracle: &Oracle,
    now: Moment,
    (asked, parameters): (&AskedRequest, &Parameters),
    model: &ModelRecord,
    failure: &Failure,
) -> bool {
    let (request, kind) = (&asked.request, failure.kind);
    let key = &model.spec.key;
    let trouble = || has_trouble(observed, failures, now, key, kind);
    let alone = || observed.live(key).next().is_none();
    let waited = observed.awaiting_of(asked.ticket).is_some();
    match kind {
        FailureKind::Draining => observed.draining,
        FailureKind::QuotaExceeded => says_quota(observed, now, asked, failure),
        FailureKind::Stopped | FailureKind::ModelBroken => trouble(),
        FailureKind::LoadRefused => trouble() && alone(),
        // Before that it waits for a look at what may have been mended.
        FailureKind::ModelUnusable => waited && trouble() && alone(),
        FailureKind::Quarantined => {
            oracle.is_quarantined(observed, now, key, parameters) && names_deaths(&failure.message)
        }
        FailureKind::MemoryExhausted | FailureKind::NeverFits => {
            lacks_memory(observed, model, request, parameters.size, failure)
        }
        FailureKind::QueueFull => {
            let at_once = match !waited && files::waits(observed, failures, now, key) {
                true => 0,
                false => takers(observed, failures, now, model, request),
            };
            is_full(observed, key, asked, at_once) && says_retry(observed, now, model, failure)
        }
        FailureKind::DeadlineExceeded => {
            is_too_short(observed, model, request, parameters, failure)
        }
        FailureKind::BadValue
        | FailureKind::NotKept
        | FailureKind::UnknownModel
        | FailureKind::ModelMissing
        | FailureKind::ModelUnread
        | FailureKind::Cancelled
        | FailureKind::WorkerLost
        | FailureKind::ModelFailed
        | FailureKind::NotPermitted
        | FailureKind::NoSuchName
        | FailureKind::PictureGone
        | FailureKind::Internal => false,
    }
}

fn says_retry(
    observed: &ObservedPool,
    now: Moment,
    model: &ModelRecord,
    failure: &Failure,
) -> bool {
    let after = failure.retry_after_ms;
    after.is_some_and(|ms| says_when(observed, now, model, ms))
}

fn names_deaths(text: &str) -> bool {
    text.contains("signal") || text.contains("code") || text.contains("out of memory")
}

/// No picture of this size can ever have room, and the sums in the message are right.
fn lacks_memory(
    observed: &ObservedPool,
    model: &ModelRecord,
    request: &ImageRequest,
    size: PictureSize,
    failure: &Failure,
) -> bool {
    let key = &model.spec.key;
    let places = observed.places(model, request.device);
    let able = places.iter().any(|&at| observed.could_have(key, at, size));
    let alone = observed.live(key).next().is_none();
    let for_nothing = alone && !places.iter().any(|&at| starts(observed, model, at));
    let base = failure.kind == FailureKind::MemoryExhausted;
    !able && (base || !for_nothing) && says_sums(observed, model, failure, size)
}

/// The time limit is shorter than the job is known to take.
fn is_too_short(
    observed: &ObservedPool,
    model: &ModelRecord,
    request: &ImageRequest,
    parameters: &Parameters,
    failure: &Failure,
) -> bool {
    let most = least_time(observed, model, parameters.size.pixels(), parameters.steps).1;
    let waiting = observed.waiting(&model.spec.key).count();
    let limit = request.timeout_ms.map(Duration::from_millis);
    let before = match waiting {
        1 => "1 job waits".to_owned(),
        _ => format!("{waiting} jobs wait"),
    };
    limit.is_some_and(|limit| limit < most)
        && failure.field == Some(Field::Timeout)
        && failure.message.contains(&before)
}

/// Idle workers that certainly take pictures of this request at once.
fn takers(
    observed: &ObservedPool,
    failures: &ModelFailures,
    now: Moment,
    model: &ModelRecord,
    request: &ImageRequest,
) -> usize {
    let key = &model.spec.key;
    let size = request.size.unwrap_or(model.spec.default_size);
    let nobody_waits = observed.oldest().is_none();
    let usual = size.pixels() <= model.spec.default_size.pixels()
        && request.device == DeviceConstraint::Auto;
    let everywhere = observed
        .places(model, DeviceConstraint::Auto)
        .iter()
        .all(|&at| observed.could_have(key, at, size));
    let well = failures.standing(observed, key, now) == ModelStanding::Well;
    match nobody_waits && usual && everywhere && well {
        true => observed
            .live(key)
            .filter(|(_, process)| process.is_idle() && !process.outdated)
            .count(),
        false => 0,
    }
}
