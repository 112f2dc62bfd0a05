//! Facts for the log, the metrics and `imagepool events`.

use std::time::Duration;

use ipc_protocol::ids::{Device, Generation, JobId, ModelKey, WorkerName};
use ipc_protocol::units::Mebibytes;

use crate::words::event::Exit;
use crate::words::reasons::StopReason;

/// A fact for the log and the metrics, with its numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// A worker's process exists: the one `Spawned worker` line.
    Spawned {
        worker: Generation,
        /// N of the line is its slot + 1.
        name: WorkerName,
        pid: u32,
        device: Device,
        /// Promised memory, over all devices.
        reserved: Mebibytes,
    },
    /// A worker's process could not be made.
    SpawnFailed { name: WorkerName, message: String },
    /// A worker has loaded its model.
    Ready {
        worker: Generation,
        name: WorkerName,
        /// From the start of the process.
        load: Duration,
    },
    /// A worker holds more than was promised to it: while it is not idle, or where no memory is left to promise more.
    /// Sent once for a worker.
    Outgrew {
        worker: Generation,
        name: WorkerName,
        /// Promised memory, over all devices.
        reserved: Mebibytes,
        /// Memory it holds, over all devices.
        measured: Mebibytes,
    },
    /// A worker is stopped.
    Stopping {
        worker: Generation,
        name: WorkerName,
        why: StopReason,
    },
    /// A worker that the pool wanted to exit has exited.
    Left {
        worker: Generation,
        name: WorkerName,
        /// The reason.
        why: StopReason,
        /// It had not finished loading.
        loading: bool,
    },
    /// A worker exited that was not told to, or that was stopped for its own fault.
    Died {
        worker: Generation,
        name: WorkerName,
        exit: Exit,
        /// The fault of its own for which it was stopped, if it was.
        why: Option<StopReason>,
        /// It had not finished loading.
        loading: bool,
        /// Its work at the time, e.g. `loading 430/1000` or `job 17 step 3/4`.
        doing: String,
        /// The job it ran.
        job: Option<JobId>,
        /// Deaths of the model in a row.
        in_a_row: u32,
        /// Time until another may start.
        backoff: Duration,
    },
    /// SIGKILL was sent, and the process has not exited yet.
    NotReaped {
        worker: Generation,
        name: WorkerName,
        /// Time since the first SIGKILL.
        since: Duration,
    },
    /// A job lost its worker and waits for another.
    PlacedAgain {
        job: JobId,
        /// Finished steps that the next attempt resumes after.
        resume_step: u32,
        /// The next attempt's number.
        attempt: u32,
    },
    /// An idle worker is evicted.
    Evicted {
        name: WorkerName,
        /// The model that gets its memory.
        for_model: ModelKey,
        /// Memory it gives back, over all devices.
        freed: Mebibytes,
    },
    /// A model failed too often in a row and rests.
    BreakerOpened {
        model: ModelKey,
        /// Failures in a row.
        failures: u32,
        /// The last of them.
        last: String,
        /// Time until the first probe.
        for_long: Duration,
    },
    /// The probes of a model succeeded: it no longer rests.
    BreakerClosed { model: ModelKey },
    /// A model could not be loaded.
    LoadCooling {
        model: ModelKey,
        message: String,
        /// Time until the next try.
        for_long: Duration,
    },
    /// A job killed too many workers.
    Quarantined {
        job: JobId,
        /// The name for `quarantine release`.
        digest: String,
        /// How each worker died.
        evidence: Vec<String>,
    },
    /// The memory of a dead worker was not confirmed as free in time.
    Unreclaimed {
        worker: Generation,
        device: Device,
        amount: Mebibytes,
    },
    /// No worker starts on a device until it is measured again.
    DeviceLost { device: Device, reason: String },
    /// A device failed for several models: nothing new is placed there for a while.
    DeviceRests {
        device: Device,
        reason: String,
        /// Time until it is tried again.
        for_long: Duration,
    },
    /// A device that was lost or rested is used again.
    DeviceBack { device: Device },
    /// The pool is draining.
    Draining {
        /// Jobs still to answer.
        jobs: u64,
    },
    /// Requests are taken again.
    DrainUndone,
    /// Other programs are asked for the memory of a device.
    TruceAsked { device: Device },
    /// The last worker has left a device, which other programs may use again.
    TruceEnded { device: Device },
    /// The pool leaves its memory to other programs for a while.
    Yielding {
        /// How long.
        for_long: Duration,
    },
    /// The pool starts workers again after it yielded.
    YieldEnded,
    /// A rule that the pool relies on is broken: a mistake in the pool itself. It went on without the step that it
    /// could not take.
    Defect {
        /// The broken rule, with the ids it is about.
        what: String,
    },
}
