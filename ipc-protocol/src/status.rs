//! The pool's status, one snapshot at a time.

use bincode::{Decode, Encode};
use serde::Serialize;

use crate::ids::{Generation, JobId, ModelKey};

/// Everything at one moment; taken by the loop, so that its sums agree with each other.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatusReport {
    /// The daemon itself.
    pub supervisor: SupervisorStatus,
    /// One entry per device.
    pub memory: Vec<MemoryStatus>,
    /// Every worker process that is not reaped yet, by name.
    pub workers: Vec<WorkerStatus>,
    /// Every model of the registry.
    pub models: Vec<ModelStatus>,
    /// Every accepted job without an answer.
    pub queue: Vec<QueuedStatus>,
    /// Counts since the start.
    pub counters: Counters,
}

/// The parts a report travels in, one frame each; `End` is the last.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum StatusPart {
    /// First.
    Supervisor(SupervisorStatus),
    /// One per device.
    Memory(MemoryStatus),
    /// One per worker.
    Worker(WorkerStatus),
    /// One per model.
    Model(ModelStatus),
    /// One per unanswered job.
    Queued(QueuedStatus),
    /// Last before the end.
    Counters(Counters),
    /// Nothing follows.
    End,
}

impl StatusReport {
    /// The frames of a report, in order.
    pub fn into_parts(self) -> Vec<StatusPart> {
        let mut parts = vec![StatusPart::Supervisor(self.supervisor)];
        parts.extend(self.memory.into_iter().map(StatusPart::Memory));
        parts.extend(self.workers.into_iter().map(StatusPart::Worker));
        parts.extend(self.models.into_iter().map(StatusPart::Model));
        parts.extend(self.queue.into_iter().map(StatusPart::Queued));
        parts.push(StatusPart::Counters(self.counters));
        parts.push(StatusPart::End);
        parts
    }

    /// A report put together again; `None` when the parts held no supervisor.
    pub fn from_parts(parts: impl IntoIterator<Item = StatusPart>) -> Option<Self> {
        let (mut supervisor, mut memory, mut workers) = (None, Vec::new(), Vec::new());
        let (mut models, mut queue, mut counters) = (Vec::new(), Vec::new(), Counters::default());
        for part in parts {
            match part {
                StatusPart::Supervisor(part) => supervisor = Some(part),
                StatusPart::Memory(part) => memory.push(part),
                StatusPart::Worker(part) => workers.push(part),
                StatusPart::Model(part) => models.push(part),
                StatusPart::Queued(part) => queue.push(part),
                StatusPart::Counters(part) => counters = part,
                StatusPart::End => break,
            }
        }
        supervisor.map(|supervisor| Self {
            supervisor,
            memory,
            workers,
            models,
            queue,
            counters,
        })
    }
}

/// The daemon itself.
#[derive(Debug, Clone, PartialEq, Encode, Decode, Serialize)]
pub struct SupervisorStatus {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// `serving` or `draining`.
    pub state: String,
    /// Seconds since it started.
    pub uptime_s: f64,
    /// Seconds since it takes nothing new; none while it serves.
    pub draining_s: Option<f64>,
}

/// The books of one device.
#[derive(Debug, Clone, PartialEq, Encode, Decode, Serialize)]
pub struct MemoryStatus {
    /// `host` or `cuda:N`.
    pub device: String,
    /// The limit.
    pub limit_mb: u64,
    /// The reservations of workers that are not reaped yet.
    pub reserved_mb: u64,
    /// The measured memory of workers, if known.
    pub measured_mb: Option<u64>,
    /// The memory of other processes, if known.
    pub foreign_mb: Option<u64>,
    /// Given back by a process that is gone, not yet by the driver.
    pub settling_mb: u64,
}

/// One worker process.
#[derive(Debug, Clone, PartialEq, Encode, Decode, Serialize)]
pub struct WorkerStatus {
    /// `MODEL:SLOT`.
    pub name: String,
    /// The model it serves.
    pub model: ModelKey,
    /// STARTING, RUNNING or STOPPING.
    pub state: WorkerState,
    /// Its process, once there is one.
    pub pid: Option<u32>,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// The worker's generation.
    pub generation: Generation,
    /// Promised memory by device name.
    pub reserved_mb: std::collections::BTreeMap<String, u64>,
    /// The measured memory, if known.
    pub measured_mb: Option<u64>,
    /// The job that it draws.
    pub job: Option<RunningStatus>,
    /// Jobs it finished.
    pub jobs_done: u64,
    /// Unrequested deaths of earlier workers of this model.
    pub restarts: u64,
    /// Seconds since it entered its state.
    pub since_s: f64,
    /// Seconds since the process started.
    pub uptime_s: f64,
    /// How far a load is, 0 to 1, while it is STARTING.
    pub load_progress: Option<f32>,
}

/// A worker's or model's state in supervisorctl's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum WorkerState {
    /// No process, by wish or because nothing asked for one.
    Stopped,
    /// Spawned or loading.
    Starting,
    /// Ready: idle or busy.
    Running,
    /// Waiting to be started again after a death.
    Backoff,
    /// Told to leave.
    Stopping,
    /// Left because it was idle.
    Exited,
    /// Breaker open or load cool-down.
    Fatal,
}

impl WorkerState {
    /// The word itself.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stopped => "STOPPED",
            Self::Starting => "STARTING",
            Self::Running => "RUNNING",
            Self::Backoff => "BACKOFF",
            Self::Stopping => "STOPPING",
            Self::Exited => "EXITED",
            Self::Fatal => "FATAL",
        }
    }
}

/// The job a worker runs.
#[derive(Debug, Clone, PartialEq, Encode, Decode, Serialize)]
pub struct RunningStatus {
    /// The job.
    pub id: JobId,
    /// Steps finished.
    pub step: u32,
    /// Steps in all.
    pub steps: u32,
}

/// One model of the registry.
#[derive(Debug, Clone, PartialEq, Encode, Decode, Serialize)]
pub struct ModelStatus {
    /// Its key.
    pub key: ModelKey,
    /// `flux`, `sd3` or `synthetic`.
    pub family: String,
    /// `ready`, `cold`, `cooling`, `broken` or `missing`.
    pub state: String,
    /// The memory need of one worker: residency, and activation at the default size.
    pub need_mb: u64,
    /// Kept resident.
    pub pinned: bool,
    /// The line of `status` for a model without workers: its state word and why.
    pub at_rest: Option<(WorkerState, String)>,
}

/// One accepted job without an answer.
#[derive(Debug, Clone, PartialEq, Encode, Decode, Serialize)]
pub struct QueuedStatus {
    /// The job.
    pub job: JobId,
    /// The model it needs.
    pub model: ModelKey,
    /// `waiting`, `loading` or `running`.
    pub state: String,
    /// Its place among those that wait for the model, from 1; 0 while it runs.
    pub position: u32,
    /// Seconds since it was accepted.
    pub waiting_s: f64,
    /// Why it waits, with numbers.
    pub reason: String,
}

/// Counts since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Counters {
    /// Workers started.
    pub spawns: u64,
    /// Workers reaped.
    pub exits: u64,
    /// Idle workers ended to make room for another model.
    pub evictions: u64,
    /// Evictions that were followed by loading another model in their place.
    pub swaps: u64,
    /// The most jobs that went ahead of one that was there before them.
    pub overtakes_max: u64,
}
