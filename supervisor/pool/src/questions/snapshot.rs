//! Everything at one moment: taken in one call, so that its sums agree.

use std::collections::BTreeMap;
use std::time::Duration;

use ipc_protocol::ids::{Device, Generation, JobId};
use ipc_protocol::status::{
    Counters, MemoryStatus, ModelStatus, QueuedStatus, RunningStatus, WorkerState, WorkerStatus,
};

use crate::questions::explain::{files_reason, waiting_reason_behind};
use crate::questions::room::need_mb;
use crate::questions::standing::is_leaving;
use crate::state::State;
use crate::state::budget::DeviceObstacle;
use crate::state::job::Job;
use crate::state::lifecycle::Lifecycle;
use crate::state::model::{Model, Standing};
use crate::state::record::RestartVerdict;
use crate::state::worker::Worker;
use crate::words::moment::Moment;
use crate::words::registry::ModelId;

/// Everything in a status report except the daemon's pid and version.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// For how long no requests have been taken; `None` while they are.
    pub draining: Option<Duration>,
    /// For how long memory is left to other programs; `None` if it is not.
    pub yields: Option<Duration>,
    /// One per device.
    pub memory: Vec<MemoryStatus>,
    /// Why nothing new is placed on a device, for each on which that is so.
    pub obstacles: BTreeMap<Device, DeviceObstacle>,
    /// Every worker that is not reaped, by name.
    pub workers: Vec<WorkerStatus>,
    /// Every model that is offered, or has jobs from before.
    pub models: Vec<ModelStatus>,
    /// Every job without an answer.
    pub queue: Vec<QueuedStatus>,
    /// Since the start.
    pub counters: Counters,
}

/// Takes a snapshot at `now`.
pub(crate) fn snapshot(state: &State, now: Moment) -> Snapshot {
    let mut workers: Vec<&Worker> = state.fleet().iter().collect();
    workers.sort_by(|one, two| one.name().cmp(two.name()));
    let shown = state
        .model_ids()
        .filter(|&id| !state.model(id).wanted().is_retired() || is_leaving(state, id));
    Snapshot {
        draining: state.phase().since().map(|since| now.since(since)),
        yields: state.yields_until().map(|until| until.since(now)),
        memory: state.budget().status(),
        obstacles: obstacles(state, now),
        workers: workers
            .iter()
            .map(|worker| worker_status(state, worker, now))
            .collect(),
        models: shown.map(|id| model_status(state, id, now)).collect(),
        queue: queue_status(state, now),
        counters: state.counters().clone(),
    }
}

/// The status of one worker.
pub(crate) fn worker(state: &State, now: Moment, id: Generation) -> Option<WorkerStatus> {
    let worker = state.fleet().get(id)?;
    Some(worker_status(state, worker, now))
}

fn obstacles(state: &State, now: Moment) -> BTreeMap<Device, DeviceObstacle> {
    let devices = state.budget().devices();
    let why = devices.map(|device| Some((device, state.budget().obstacle(device, now)?)));
    why.flatten().collect()
}

fn worker_status(state: &State, worker: &Worker, now: Moment) -> WorkerStatus {
    let mut reserved_mb = BTreeMap::new();
    for (device, part) in worker.promised().flat_map(|amount| amount.parts()) {
        *reserved_mb.entry(device.to_string()).or_insert(0) += part.0;
    }
    let load_progress = match worker.life() {
        Lifecycle::Starting { .. } => Some(0.0),
        Lifecycle::Loading { permille, .. } => Some(f32::from(*permille) / 1000.0),
        Lifecycle::Idle { .. }
        | Lifecycle::Busy { .. }
        | Lifecycle::Unwinding { .. }
        | Lifecycle::Stopping { .. } => None,
    };
    WorkerStatus {
        name: worker.name().to_string(),
        model: worker.name().model.clone(),
        state: state_of(worker),
        pid: worker.pid(),
        device: worker.device().placement(),
        generation: worker.generation(),
        reserved_mb,
        measured_mb: worker.footprint().map(|held| held.host.0 + held.device.0),
        job: worker.attempt().map(|attempt| RunningStatus {
            id: attempt.job(),
            step: attempt.step(),
            steps: attempt.steps(),
        }),
        jobs_done: worker.jobs_done(),
        restarts: state.model(worker.model()).observed().deaths(),
        since_s: now.since(worker.since()).as_secs_f64(),
        uptime_s: now.since(worker.spawned()).as_secs_f64(),
        load_progress,
        sandbox: None,
    }
}

fn model_status(state: &State, id: ModelId, now: Moment) -> ModelStatus {
    let model = state.model(id);
    let at_rest = state.fleet().count(id) == 0;
    ModelStatus {
        key: model.spec().key.clone(),
        family: model.spec().family.word().into(),
        state: model_word(state, id, now).into(),
        need_mb: need_mb(state, id).0,
        pinned: model.wanted().is_pinned(),
        at_rest: at_rest.then(|| rest_line(state, id, now)),
    }
}

fn model_word(state: &State, id: ModelId, now: Moment) -> &'static str {
    if is_leaving(state, id) {
        return "leaving";
    }
    match state.model(id).standing(now) {
        Standing::Missing(_) => "missing",
        Standing::Broken(_) => "broken",
        // Nothing of it is in memory; its line says that its files are being looked at.
        Standing::Unread => "cold",
        // The line of `status` says that an operator stopped it; nothing of it is in memory.
        Standing::Stopped => "cold",
        Standing::Tried(RestartVerdict::Open(..)) => "broken",
        Standing::Tried(RestartVerdict::Cool(_)) => "cooling",
        Standing::Tried(
            RestartVerdict::Go | RestartVerdict::Probe | RestartVerdict::BackOff(_),
        ) => match state.fleet().live(id).any(Worker::is_resident) {
            true => "ready",
            false => "cold",
        },
    }
}

fn queue_status(state: &State, now: Moment) -> Vec<QueuedStatus> {
    let mut positions: BTreeMap<JobId, u32> = BTreeMap::new();
    for id in state.model_ids() {
        positions.extend(state.jobs().queue(id).iter().zip(1..));
    }
    // Jobs come in the order of their arrival.
    let mut before: BTreeMap<ModelId, usize> = BTreeMap::new();
    let line = |job: &Job| {
        let position = positions.get(&job.id()).copied();
        let model = job.model();
        let loading = || state.fleet().live(model).any(Worker::is_coming);
        let resident = || state.fleet().live(model).any(Worker::is_resident);
        let word = match position {
            None => "running",
            Some(_) if loading() && !resident() => "loading",
            Some(_) => "waiting",
        };
        QueuedStatus {
            job: job.id(),
            model: state.model(model).spec().key.clone(),
            state: word.into(),
            position: position.unwrap_or(0),
            waiting_s: now.since(job.accepted()).as_secs_f64(),
            reason: match position {
                None => String::new(),
                Some(_) => {
                    let before = before.entry(model).or_default();
                    let reason = waiting_reason_behind(state, now, job, *before);
                    *before += 1;
                    reason
                }
            },
        }
    };
    let jobs = state.jobs().iter().map(line);
    jobs.chain(files_status(state, now)).collect()
}

/// The jobs of requests that wait for files. They come after those in the queue of their model.
fn files_status(state: &State, now: Moment) -> impl Iterator<Item = QueuedStatus> {
    state.requests().models().flat_map(move |id| {
        let requests = state.requests().of(id).iter();
        let jobs = requests.flat_map(|request| request.wanted().map(|job| (job, request.since())));
        let first = state.jobs().queue(id).len() + 1;
        (first..)
            .zip(jobs)
            .map(move |(position, (job, since))| QueuedStatus {
                job,
                model: state.model(id).spec().key.clone(),
                state: "waiting".into(),
                position: u32::try_from(position).unwrap_or(u32::MAX),
                waiting_s: now.since(since).as_secs_f64(),
                reason: files_reason(state, id),
            })
    })
}

fn state_of(worker: &Worker) -> WorkerState {
    match worker.life() {
        Lifecycle::Starting { .. } | Lifecycle::Loading { .. } => WorkerState::Starting,
        Lifecycle::Idle { .. } | Lifecycle::Busy { .. } | Lifecycle::Unwinding { .. } => {
            WorkerState::Running
        }
        Lifecycle::Stopping { .. } => WorkerState::Stopping,
    }
}

/// The line of a model without workers.
fn rest_line(state: &State, id: ModelId, now: Moment) -> (WorkerState, String) {
    let (word, why) = rest_reason(state.model(id), now);
    let jobs = state.jobs().queue(id).len();
    match is_leaving(state, id) {
        true => (
            word,
            format!("No longer offered, {jobs} jobs to finish; {why}"),
        ),
        false => (word, why),
    }
}

/// Why a model has no workers.
fn rest_reason(model: &Model, now: Moment) -> (WorkerState, String) {
    let seconds = |until: Moment| {
        let left: Duration = until.since(now);
        left.as_millis().div_ceil(1000)
    };
    match model.standing(now) {
        Standing::Missing(why) => (WorkerState::Stopped, format!("Not started: {why}")),
        Standing::Broken(why) => (WorkerState::Fatal, format!("Cannot be loaded: {why}")),
        Standing::Unread => (WorkerState::Stopped, "Looking at its files".into()),
        Standing::Stopped => (WorkerState::Stopped, "Stopped by operator".into()),
        Standing::Tried(RestartVerdict::Open(until, failures)) => {
            let left = seconds(until);
            (
                WorkerState::Fatal,
                format!(
                    "Failed {failures} times in a row, next try in {left} s{}{}",
                    model.last_failure(": "),
                    model.last_death()
                ),
            )
        }
        Standing::Tried(RestartVerdict::Cool(cooling)) => {
            let left = seconds(cooling.until());
            (
                WorkerState::Fatal,
                format!(
                    "Cannot be loaded: {}, next try in {left} s{}",
                    cooling.message(),
                    model.last_death()
                ),
            )
        }
        Standing::Tried(RestartVerdict::BackOff(at)) => (
            WorkerState::Backoff,
            format!(
                "Failed, next try in {} s{}{}",
                seconds(at),
                model.last_failure(": "),
                model.last_death()
            ),
        ),
        Standing::Tried(RestartVerdict::Go | RestartVerdict::Probe) => match model.at_rest() {
            (WorkerState::Backoff, why) => {
                (WorkerState::Backoff, why.to_owned() + &model.last_death())
            }
            (state, why) => (state, why.into()),
        },
    }
}
