//! The pool's report about itself is true: memory, workers, models, jobs.

use crate::observed::span;
use ipc_protocol::ids::{Device, DeviceConstraint, JobId, ModelKey};
use ipc_protocol::status::{ModelStatus, QueuedStatus, WorkerState, WorkerStatus};
use pool::{Files, Moment, Pool};

use super::CheckResult;
use super::failures::ModelFailures;
use super::reports::place;
use super::standing::ModelStanding;
use crate::observed::{AwaitingRequest, ObservedCounts, ObservedPool, ProcessRecord, ProcessState};

pub(super) fn check(
    observed: &ObservedPool,
    failures: &ModelFailures,
    now: Moment,
    pool: &Pool,
) -> CheckResult {
    let snapshot = pool.snapshot(now);
    if snapshot.draining.is_some() != observed.draining {
        return Err(format!("draining: {:?}", snapshot.draining));
    }
    if snapshot.memory.len() != observed.devices.len()
        || snapshot.workers.len() != observed.workers.len()
    {
        return Err("a device or a worker is missing in the status".into());
    }
    let reserved: Vec<JobId> = observed
        .requests
        .values()
        .flat_map(AwaitingRequest::wanted)
        .collect();
    if snapshot.queue.len() != observed.jobs.len() + reserved.len() {
        return Err("a job is missing in the status".into());
    }
    let counters = &snapshot.counters;
    let counts = ObservedCounts {
        spawns: counters.spawns,
        exits: counters.exits,
        evictions: counters.evictions,
        swaps: counters.swaps,
    };
    if counts != observed.counts {
        return Err(format!("{counters:?}, should be {:?}", observed.counts));
    }
    let (overtakes, most) = (counters.overtakes_max, observed.settings.max_overtakes);
    if overtakes > u64::from(most) && !observed.settings.fifo {
        return Err(format!("{overtakes} overtakes, at most {most} may be"));
    }
    let total: u64 = snapshot.memory.iter().map(|book| book.reserved_mb).sum();
    if total != pool.total_memory_mb() {
        return Err(format!(
            "{} MB in all, the sum is {total}",
            pool.total_memory_mb()
        ));
    }
    check_books(observed, &snapshot.memory)?;
    for worker in &snapshot.workers {
        check_worker(observed, now, worker)?;
    }
    let shown = observed.models.iter();
    let shown = shown.filter(|(key, model)| model.offered || has_some(observed, key));
    let shown = shown.count();
    if snapshot.models.len() != shown {
        return Err(format!(
            "{} models are in the status, {shown} should be",
            snapshot.models.len()
        ));
    }
    for model in &snapshot.models {
        check_model(observed, failures, now, pool, model)?;
    }
    snapshot
        .queue
        .iter()
        .try_for_each(|entry| check_job(observed, now, entry))
}

fn check_books(
    observed: &ObservedPool,
    books: &[ipc_protocol::status::MemoryStatus],
) -> CheckResult {
    for (book, (&device, place)) in books.iter().zip(&observed.devices) {
        let theirs = (
            book.limit_mb,
            book.reserved_mb,
            book.settling_mb,
            book.measured_mb,
            book.foreign_mb,
        );
        let ours = (
            place.limit.0,
            observed.reserved(device).0,
            observed.settling_on(device, None).0,
            place.measured.map(|part| part.0),
            place.foreign.map(|part| part.0),
        );
        if book.device != device.to_string() || theirs != ours {
            return Err(format!(
                "the book of {device} is {book:?}, should be {ours:?}"
            ));
        }
    }
    Ok(())
}

fn check_worker(observed: &ObservedPool, now: Moment, worker: &WorkerStatus) -> CheckResult {
    let Some(process) = observed.workers.get(&worker.generation) else {
        return Err(format!("{} is in the status and gone", worker.name));
    };
    let progress = match process.state {
        ProcessState::Starting => Some(0.0),
        ProcessState::Loading => Some(f32::from(process.permille) / 1000.0),
        ProcessState::Idle
        | ProcessState::Busy(_)
        | ProcessState::Unwinding(_)
        | ProcessState::Leaving(_) => None,
    };
    let job = process
        .job()
        .and_then(|job| Some((job, observed.jobs.get(&job)?)));
    let right = [
        (
            "name",
            worker.name == process.name.to_string() && worker.model == process.name.model,
        ),
        ("place", worker.device == process.device.placement()),
        ("pid", worker.pid == process.pid),
        ("state", worker.state == word(process)),
        ("jobs done", worker.jobs_done == process.jobs_done),
        (
            "restarts",
            worker.restarts == observed.models[&worker.model].deaths,
        ),
        ("load", worker.load_progress == progress),
        ("age", seconds(worker.uptime_s, now, process.started)),
        (
            "time in its state",
            seconds(worker.since_s, now, process.since),
        ),
        (
            "footprint",
            worker.measured_mb == process.footprint.map(|f| f.host.0 + f.device.0),
        ),
        (
            "job",
            worker.job.as_ref().map(|at| (at.id, at.steps))
                == job.map(|(id, record)| (id, record.parameters.steps)),
        ),
        (
            "step",
            !matches!(process.state, ProcessState::Busy(_))
                || worker.job.as_ref().map(|at| at.step) == job.map(|(_, record)| record.step),
        ),
        ("memory", holds(observed, process, worker)),
    ];
    match right.iter().find(|(_, right)| !right) {
        Some((what, _)) => Err(format!(
            "{what} of {}: {worker:?} is {process:?}",
            worker.name
        )),
        None => Ok(()),
    }
}

fn holds(observed: &ObservedPool, process: &ProcessRecord, worker: &WorkerStatus) -> bool {
    let on = |device: &Device| {
        worker
            .reserved_mb
            .get(&device.to_string())
            .copied()
            .unwrap_or(0)
    };
    observed
        .devices
        .keys()
        .all(|device| on(device) == observed.held(process, *device).0)
}

fn word(process: &ProcessRecord) -> WorkerState {
    match process.state {
        ProcessState::Starting | ProcessState::Loading => WorkerState::Starting,
        ProcessState::Idle | ProcessState::Busy(_) | ProcessState::Unwinding(_) => {
            WorkerState::Running
        }
        ProcessState::Leaving(_) => WorkerState::Stopping,
    }
}

fn seconds(said: f64, now: Moment, from: Moment) -> bool {
    (said - span(now, from).as_secs_f64()).abs() < 0.001
}

/// A model has workers, or jobs that wait.
fn has_some(observed: &ObservedPool, key: &ModelKey) -> bool {
    observed.workers_of(key).next().is_some() || observed.waiting(key).next().is_some()
}

fn check_model(
    observed: &ObservedPool,
    failures: &ModelFailures,
    now: Moment,
    pool: &Pool,
    status: &ModelStatus,
) -> CheckResult {
    let key = &status.key;
    let Some(model) = observed.models.get(key) else {
        return Err(format!("{key} is in the status and was never offered"));
    };
    let lives = observed.live(key).next().is_some();
    if pool.has_workers(key) != lives {
        return Err(format!(
            "{key} has workers: {lives}, and the pool says the opposite"
        ));
    }
    let resident = observed.live(key).any(|(_, process)| process.is_resident());
    let word = match failures.standing(observed, key, now) {
        _ if !model.offered => "leaving",
        ModelStanding::Missing => match model.spec.files {
            Files::Broken(_) => "broken",
            Files::Unread => "cold",
            Files::Missing(_) | Files::Here { .. } => "missing",
        },
        ModelStanding::Stopped => "cold",
        ModelStanding::Broken(..) => "broken",
        ModelStanding::Cooling(_) => "cooling",
        ModelStanding::BackOff(_) | ModelStanding::Probing | ModelStanding::Well if resident => {
            "ready"
        }
        ModelStanding::BackOff(_) | ModelStanding::Probing | ModelStanding::Well => "cold",
    };
    // On the first device it may run on: the fastest, then the roomiest.
    let needs = observed
        .devices
        .keys()
        .filter_map(|&at| Some(observed.need(model, at)?.get(&at)?.0));
    let right = status.pinned == model.pinned
        && status.family == model.spec.family.word()
        && status.state == word
        && status.at_rest.is_some() == observed.workers_of(key).next().is_none()
        && (observed.places(model, DeviceConstraint::Auto).is_empty()
            || needs.into_iter().any(|need| need == status.need_mb));
    if !right {
        return Err(format!("{status:?}, {word}, should have {model:?}"));
    }
    let Some((state, why)) = &status.at_rest else {
        return Ok(());
    };
    let says = |wanted: WorkerState, part: &str| *state == wanted && why.contains(part);
    let left = |until: Moment| format!("next try in {} s", now_left(until, now));
    let right = match failures.standing(observed, key, now) {
        ModelStanding::Missing => match &model.spec.files {
            Files::Broken(reason) => says(WorkerState::Fatal, reason),
            Files::Unread => says(WorkerState::Stopped, "Looking at its files"),
            Files::Missing(_) | Files::Here { .. } => says(WorkerState::Stopped, "Not started"),
        },
        ModelStanding::Stopped => says(WorkerState::Stopped, "Stopped by operator"),
        ModelStanding::Broken(until, failures) => {
            says(WorkerState::Fatal, &left(until)) && why.contains(&format!("{failures} times"))
        }
        ModelStanding::Cooling(until) => says(WorkerState::Fatal, &left(until)),
        ModelStanding::BackOff(until) => says(WorkerState::Backoff, &left(until)),
        ModelStanding::Probing | ModelStanding::Well => !why.is_empty(),
    };
    match right {
        true => Ok(()),
        false => Err(format!("{key} is at rest as {state:?} {why:?}")),
    }
}

fn now_left(until: Moment, now: Moment) -> u128 {
    span(until, now).as_millis().div_ceil(1000)
}

fn check_job(observed: &ObservedPool, now: Moment, entry: &QueuedStatus) -> CheckResult {
    let Some(record) = observed.jobs.get(&entry.job) else {
        return check_awaiting(observed, now, entry);
    };
    let resident = || {
        observed
            .live(&record.model)
            .any(|(_, process)| process.is_resident())
    };
    let coming = || {
        observed
            .live(&record.model)
            .any(|(_, process)| process.is_coming())
    };
    let (state, position) = match record.on {
        Some(_) => ("running", 0),
        None if coming() && !resident() => ("loading", place(observed, entry.job)),
        None => ("waiting", place(observed, entry.job)),
    };
    let right = entry.model == record.model
        && entry.state == state
        && entry.position as usize == position
        && seconds(entry.waiting_s, now, record.accepted)
        && entry.reason.is_empty() == record.on.is_some();
    match right {
        true => Ok(()),
        false => Err(format!("{entry:?} should be {state}, place {position}")),
    }
}

/// A job of a request that waits for files comes after the queue of its model, in the order of its id.
fn check_awaiting(observed: &ObservedPool, now: Moment, entry: &QueuedStatus) -> CheckResult {
    let holds = |waiting: &&AwaitingRequest| waiting.wanted().any(|job| job == entry.job);
    let Some(waiting) = observed.requests.values().find(holds) else {
        return Err(format!("job {} is in the status and answered", entry.job));
    };
    let key = &waiting.model;
    let wanted = observed.awaiting(key).flat_map(AwaitingRequest::wanted);
    let before = wanted.take_while(|job| *job < entry.job).count();
    let position = observed.waiting(key).count() + before + 1;
    let right = entry.model == *key
        && entry.state == "waiting"
        && entry.position as usize == position
        && seconds(entry.waiting_s, now, waiting.since)
        && entry.reason == format!("for the files of {key}");
    match right {
        true => Ok(()),
        false => Err(format!("{entry:?} should wait for files, place {position}")),
    }
}
