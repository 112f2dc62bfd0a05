//! The status report of the pool, as `imagepool status` prints it.

use bincode::{Decode, Encode};
use serde::Serialize;

use crate::ids::{Generation, JobId, ModelKey};
use crate::sandbox::SandboxReached;

/// The state of the pool at one moment. The loop makes it, so that its numbers are consistent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatusReport {
    /// The daemon itself.
    pub supervisor: SupervisorStatus,
    /// Memory, one entry per device.
    pub memory: Vec<MemoryStatus>,
    /// Every worker process that is not reaped yet, sorted by name.
    pub workers: Vec<WorkerStatus>,
    /// Every model of the registry.
    pub models: Vec<ModelStatus>,
    /// Every accepted job that is not answered yet.
    pub queue: Vec<QueuedStatus>,
    /// Counters since the daemon started.
    pub counters: Counters,
    /// Every GPU, by number.
    pub devices: Vec<DeviceStatus>,
}

/// A part of a report, sent as one frame; `End` is the last.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum StatusPart {
    /// The first part.
    Supervisor(SupervisorStatus),
    /// One per device.
    Memory(MemoryStatus),
    /// One per worker.
    Worker(WorkerStatus),
    /// One per model.
    Model(ModelStatus),
    /// One per unanswered job.
    Queued(QueuedStatus),
    /// The last part before `End`.
    Counters(Counters),
    /// The end of the report.
    End,
    /// One per GPU; sent before `End`.
    Device(DeviceStatus),
}

impl StatusReport {
    /// Splits a report into its parts, in the order of sending.
    pub fn into_parts(self) -> Vec<StatusPart> {
        let mut parts = vec![StatusPart::Supervisor(self.supervisor)];
        parts.extend(self.memory.into_iter().map(StatusPart::Memory));
        parts.extend(self.workers.into_iter().map(StatusPart::Worker));
        parts.extend(self.models.into_iter().map(StatusPart::Model));
        parts.extend(self.queue.into_iter().map(StatusPart::Queued));
        parts.push(StatusPart::Counters(self.counters));
        parts.extend(self.devices.into_iter().map(StatusPart::Device));
        parts.push(StatusPart::End);
        parts
    }

    /// Joins the parts of a report; `None` if the supervisor part is missing.
    pub fn from_parts(parts: impl IntoIterator<Item = StatusPart>) -> Option<Self> {
        let (mut supervisor, mut memory, mut workers) = (None, Vec::new(), Vec::new());
        let (mut models, mut queue, mut counters) = (Vec::new(), Vec::new(), Counters::default());
        let mut devices = Vec::new();
        for part in parts {
            match part {
                StatusPart::Supervisor(part) => supervisor = Some(part),
                StatusPart::Memory(part) => memory.push(part),
                StatusPart::Worker(part) => workers.push(part),
                StatusPart::Model(part) => models.push(part),
                StatusPart::Queued(part) => queue.push(part),
                StatusPart::Counters(part) => counters = part,
                StatusPart::Device(part) => devices.push(part),
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
            devices,
        })
    }
}

/// The daemon itself.
#[derive(Debug, Clone, PartialEq, Encode, Decode, Serialize)]
pub struct SupervisorStatus {
    /// Process id of the daemon.
    pub pid: u32,
    /// Build version of the daemon.
    pub version: String,
    /// `serving` or `draining`.
    pub state: String,
    /// Seconds since the daemon started.
    pub uptime_s: f64,
    /// Seconds since draining began; `None` while it serves.
    pub draining_s: Option<f64>,
    /// Whether each worker has a control group of its own: `v1`, `v2`, `off` or `none`.
    pub control_groups: String,
    /// The folder of these groups, or the reason why they cannot be made.
    pub control_groups_detail: String,
    /// The folder of the journal and the obituaries; `None` if they are kept in memory only.
    pub state_dir: Option<String>,
    /// Seconds for which the pool leaves its memory to other programs; `None` if it does not.
    pub yielding_s: Option<f64>,
    /// Whether detached jobs outlive the daemon: `kept`, `renewed` after damage, `failing` or `none`.
    pub journal: String,
    /// A sentence about that; empty if there is nothing to say.
    pub journal_detail: String,
}

/// Memory of one device.
#[derive(Debug, Clone, PartialEq, Encode, Decode, Serialize)]
pub struct MemoryStatus {
    /// `host` or `cuda:N`.
    pub device: String,
    /// The limit of all reservations.
    pub limit_mb: u64,
    /// The reservations of workers that are not reaped yet.
    pub reserved_mb: u64,
    /// The measured memory of workers, if known.
    pub measured_mb: Option<u64>,
    /// The memory of other processes, if known.
    pub foreign_mb: Option<u64>,
    /// Memory of exited processes that the device's driver has not freed yet.
    pub settling_mb: u64,
}

/// One GPU. Its memory is a [`MemoryStatus`] of the same device.
#[derive(Debug, Clone, PartialEq, Encode, Decode, Serialize)]
pub struct DeviceStatus {
    /// `cuda:N`.
    pub device: String,
    /// Name of the product.
    pub name: String,
    /// Its own id, `GPU-…` or `MIG-…`.
    pub uuid: String,
    /// CUDA compute capability, as in `9.0`, if known.
    pub compute: Option<String>,
    /// Version of the driver.
    pub driver: String,
    /// Size of the memory.
    pub total_mb: u64,
    /// Whether workers may be placed there.
    pub state: DeviceState,
    /// The reason, if they may not.
    pub reason: Option<String>,
    /// Seconds since it was last measured. Only a GPU with work is measured.
    pub measured_s: f64,
    /// Temperature in degrees Celsius when it was last measured, if known.
    pub temperature_c: Option<u32>,
    /// Power in watts when it was last measured, if known.
    pub power_w: Option<f32>,
    /// Errors of the memory that could not be corrected since the driver was loaded, if known.
    pub uncorrected_errors: Option<u64>,
}

/// Whether workers may be placed on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceState {
    /// They may.
    Ready,
    /// Not before it is measured again, which happens when it is needed.
    Unmeasured,
    /// Not for a while, because it failed for several models.
    Resting,
    /// Not before it is back.
    Lost,
}

impl DeviceState {
    /// The name of the state, as `imagepool status` prints it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ready => "READY",
            Self::Unmeasured => "UNMEASURED",
            Self::Resting => "RESTING",
            Self::Lost => "LOST",
        }
    }
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
    /// Process id of the worker, once there is one.
    pub pid: Option<u32>,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// The worker's generation.
    pub generation: Generation,
    /// Reserved memory by device name.
    pub reserved_mb: std::collections::BTreeMap<String, u64>,
    /// The measured memory, if known.
    pub measured_mb: Option<u64>,
    /// The running job.
    pub job: Option<RunningStatus>,
    /// Number of jobs that the worker finished.
    pub jobs_done: u64,
    /// Unexpected exits of earlier workers of this model.
    pub restarts: u64,
    /// Seconds since the worker entered its state.
    pub since_s: f64,
    /// Seconds since the process started.
    pub uptime_s: f64,
    /// Progress of loading from 0 to 1, while the worker is STARTING.
    pub load_progress: Option<f32>,
    /// How far the worker has confined itself, once it reported that.
    pub sandbox: Option<SandboxReached>,
}

/// A worker's or model's state in supervisorctl's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum WorkerState {
    /// No process, because an operator stopped it or nothing needs one.
    Stopped,
    /// Spawned or loading.
    Starting,
    /// Ready: idle or busy.
    Running,
    /// Waits for a restart after an exit.
    Backoff,
    /// Asked to exit, or being killed.
    Stopping,
    /// Exited because it was idle.
    Exited,
    /// Circuit breaker open, or cool-down after a failed load.
    Fatal,
}

impl WorkerState {
    /// The name of the state, as supervisorctl prints it.
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

/// The job that a worker runs.
#[derive(Debug, Clone, PartialEq, Encode, Decode, Serialize)]
pub struct RunningStatus {
    /// The job.
    pub id: JobId,
    /// The last finished step.
    pub step: u32,
    /// Total number of steps.
    pub steps: u32,
}

/// One model of the registry.
#[derive(Debug, Clone, PartialEq, Encode, Decode, Serialize)]
pub struct ModelStatus {
    /// Registry key of the model.
    pub key: ModelKey,
    /// Name of the family, such as `flux`.
    pub family: String,
    /// `ready`, `cold`, `cooling`, `broken` or `missing`; `leaving` if it is no longer offered and finishes its jobs.
    pub state: String,
    /// Memory that one worker needs: residency, and activation at the default size.
    pub need_mb: u64,
    /// True if the model is kept resident.
    pub pinned: bool,
    /// State and reason for the line that `status` prints for a model without workers.
    pub at_rest: Option<(WorkerState, String)>,
}

/// One accepted job that is not answered yet.
#[derive(Debug, Clone, PartialEq, Encode, Decode, Serialize)]
pub struct QueuedStatus {
    /// The job.
    pub job: JobId,
    /// The model it needs.
    pub model: ModelKey,
    /// `waiting`, `loading` or `running`.
    pub state: String,
    /// Position among the jobs that wait for the model, from 1; 0 while it runs.
    pub position: u32,
    /// Seconds since the job was accepted.
    pub waiting_s: f64,
    /// The reason why it waits, with numbers.
    pub reason: String,
}

/// Counters since the daemon started.
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
    /// The largest number of later jobs that overtook one job.
    pub overtakes_max: u64,
}
