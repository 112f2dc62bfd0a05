//! Everything at one moment: taken in one go, so that its sums agree with each other.

use std::collections::BTreeMap;
use std::time::Duration;

use ipc_protocol::ids::JobId;
use ipc_protocol::status::{
    Counters, MemoryStatus, ModelStatus, QueuedStatus, RunningStatus, WorkerState, WorkerStatus,
};

use crate::job::Job;
use crate::model::{Model, ModelId, Standing};
use crate::moment::Moment;
use crate::pool::Pool;
use crate::restart::Verdict;
use crate::worker::{Lifecycle, Worker};

/// Everything a status report needs but the daemon's own pid and version.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// For how long nothing new has been taken; none while the pool serves.
    pub draining: Option<Duration>,
    /// One per device.
    pub memory: Vec<MemoryStatus>,
    /// Every worker that is not reaped, by name.
    pub workers: Vec<WorkerStatus>,
    /// Every model.
    pub models: Vec<ModelStatus>,
    /// Every job without an answer.
    pub queue: Vec<QueuedStatus>,
    /// Since the start.
    pub counters: Counters,
}

impl Pool {
    /// Everything at one moment, so that its sums agree with each other.
    pub fn snapshot(&self, now: Moment) -> Snapshot {
        let mut workers: Vec<&Worker> = self.workers.values().collect();
        workers.sort_by(|one, two| one.name.cmp(&two.name));
        let offered = self.model_ids().filter(|&id| !self.model(id).retired);
        Snapshot {
            draining: self.phase.since().map(|since| now.since(since)),
            memory: self.budget.status(),
            workers: workers
                .iter()
                .map(|worker| self.worker_status(worker, now))
                .collect(),
            models: offered.map(|id| self.model_status(id, now)).collect(),
            queue: self.queue_status(now),
            counters: self.counters.clone(),
        }
    }

    fn worker_status(&self, worker: &Worker, now: Moment) -> WorkerStatus {
        let mut reserved_mb = BTreeMap::new();
        for (device, part) in worker.promised().flat_map(|amount| amount.parts()) {
            *reserved_mb.entry(device.to_string()).or_insert(0) += part.0;
        }
        let load_progress = match &worker.life {
            Lifecycle::Starting { .. } => Some(0.0),
            Lifecycle::Loading { permille, .. } => Some(f32::from(*permille) / 1000.0),
            Lifecycle::Idle { .. }
            | Lifecycle::Busy { .. }
            | Lifecycle::Unwinding { .. }
            | Lifecycle::Stopping { .. } => None,
        };
        WorkerStatus {
            name: worker.name.to_string(),
            model: worker.name.model.clone(),
            state: state_of(worker),
            pid: worker.pid,
            device: worker.device.placement(),
            generation: worker.generation,
            reserved_mb,
            measured_mb: worker.footprint.map(|held| held.host.0 + held.device.0),
            job: worker.attempt().map(|attempt| RunningStatus {
                id: attempt.job,
                step: attempt.step,
                steps: attempt.steps,
            }),
            jobs_done: worker.jobs_done,
            restarts: self.model(worker.model).deaths,
            since_s: now.since(worker.since).as_secs_f64(),
            uptime_s: now.since(worker.spawned).as_secs_f64(),
            load_progress,
        }
    }

    fn model_status(&self, id: ModelId, now: Moment) -> ModelStatus {
        let model = self.model(id);
        let at_rest = self.workers_of(model).next().is_none();
        ModelStatus {
            key: model.spec.key.clone(),
            family: model.spec.family.word().into(),
            state: self.model_word(model, now).into(),
            need_mb: self.need_mb(model).0,
            pinned: model.pinned,
            at_rest: at_rest.then(|| rest_line(model, now)),
        }
    }

    fn model_word(&self, model: &Model, now: Moment) -> &'static str {
        match model.standing(now) {
            Standing::Retired | Standing::Missing(_) => "missing",
            Standing::Broken(_) => "broken",
            // Nothing of it is in memory; its line says that its files are being looked at.
            Standing::Unread => "cold",
            // The line of `status` says that an operator stopped it; nothing of it is in memory.
            Standing::Stopped => "cold",
            Standing::Tried(Verdict::Open(..)) => "broken",
            Standing::Tried(Verdict::Cool(_)) => "cooling",
            Standing::Tried(Verdict::Go | Verdict::Probe | Verdict::BackOff(_)) => {
                match self.live(model).any(Worker::is_resident) {
                    true => "ready",
                    false => "cold",
                }
            }
        }
    }

    fn queue_status(&self, now: Moment) -> Vec<QueuedStatus> {
        let mut positions: BTreeMap<JobId, u32> = BTreeMap::new();
        for model in &self.models {
            positions.extend(model.queue.iter().zip(1..));
        }
        // Jobs come in the order of their arrival.
        let mut before: BTreeMap<ModelId, usize> = BTreeMap::new();
        let line = |(&id, job): (&JobId, &Job)| {
            let position = positions.get(&id).copied();
            let model = self.model(job.model);
            let loading = || self.live(model).any(Worker::is_coming);
            let resident = || self.live(model).any(Worker::is_resident);
            let state = match position {
                None => "running",
                Some(_) if loading() && !resident() => "loading",
                Some(_) => "waiting",
            };
            QueuedStatus {
                job: id,
                model: model.spec.key.clone(),
                state: state.into(),
                position: position.unwrap_or(0),
                waiting_s: now.since(job.accepted).as_secs_f64(),
                reason: match position {
                    None => String::new(),
                    Some(_) => {
                        let before = before.entry(job.model).or_default();
                        let reason = self.waiting_reason_behind(now, job, *before);
                        *before += 1;
                        reason
                    }
                },
            }
        };
        self.jobs.iter().map(line).collect()
    }
}

fn state_of(worker: &Worker) -> WorkerState {
    match &worker.life {
        Lifecycle::Starting { .. } | Lifecycle::Loading { .. } => WorkerState::Starting,
        Lifecycle::Idle { .. } | Lifecycle::Busy { .. } | Lifecycle::Unwinding { .. } => {
            WorkerState::Running
        }
        Lifecycle::Stopping { .. } => WorkerState::Stopping,
    }
}

/// The line of a model without workers.
fn rest_line(model: &Model, now: Moment) -> (WorkerState, String) {
    let seconds = |until: Moment| {
        let left: Duration = until.since(now);
        left.as_millis().div_ceil(1000)
    };
    match model.standing(now) {
        Standing::Retired => (WorkerState::Exited, "No longer offered".into()),
        Standing::Missing(why) => (WorkerState::Stopped, format!("Not started: {why}")),
        Standing::Broken(why) => (WorkerState::Fatal, format!("Cannot be loaded: {why}")),
        Standing::Unread => (WorkerState::Stopped, "Looking at its files".into()),
        Standing::Stopped => (WorkerState::Stopped, "Stopped by operator".into()),
        Standing::Tried(Verdict::Open(until, failures)) => {
            let left = seconds(until);
            (
                WorkerState::Fatal,
                format!(
                    "Failed {failures} times in a row, next try in {left} s{}",
                    model.last_failure(": ")
                ),
            )
        }
        Standing::Tried(Verdict::Cool(cooling)) => {
            let left = seconds(cooling.until);
            (
                WorkerState::Fatal,
                format!(
                    "Cannot be loaded: {}, next try in {left} s",
                    cooling.message
                ),
            )
        }
        Standing::Tried(Verdict::BackOff(at)) => (
            WorkerState::Backoff,
            format!(
                "Failed, next try in {} s{}",
                seconds(at),
                model.last_failure(": ")
            ),
        ),
        Standing::Tried(Verdict::Go | Verdict::Probe) => {
            let (state, why) = model.at_rest;
            (state, why.into())
        }
    }
}
