//! Facts for the log, the metrics and `imagepool events`.

use std::time::Duration;

use ipc_protocol::ids::{Device, Generation, JobId, ModelKey, WorkerName};
use ipc_protocol::units::Mebibytes;

use crate::words::event::Exit;
use crate::words::reasons::StopReason;

/// A fact for the log and the metrics, with its numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// A process exists: the one `Spawned worker` line.
    Spawned {
        /// Its generation.
        worker: Generation,
        /// Its name; N of the line is slot + 1.
        name: WorkerName,
        /// Its process.
        pid: u32,
        /// Where it runs.
        device: Device,
        /// Promised memory, over all devices.
        reserved: Mebibytes,
    },
    /// No process could be made.
    SpawnFailed {
        /// Its name.
        name: WorkerName,
        /// Why.
        message: String,
    },
    /// A model is resident.
    Ready {
        /// Its generation.
        worker: Generation,
        /// Its name.
        name: WorkerName,
        /// From the start of the process.
        load: Duration,
    },
    /// A worker holds more than was promised to it, and there is no room to promise more. Told once.
    Outgrew {
        /// Its generation.
        worker: Generation,
        /// Its name.
        name: WorkerName,
        /// Promised memory, over all devices.
        reserved: Mebibytes,
        /// What it holds, over all devices.
        measured: Mebibytes,
    },
    /// A worker is told to leave.
    Stopping {
        /// Its generation.
        worker: Generation,
        /// Its name.
        name: WorkerName,
        /// Why.
        why: StopReason,
    },
    /// A worker we wanted gone is gone.
    Left {
        /// Its generation.
        worker: Generation,
        /// Its name.
        name: WorkerName,
        /// Why it was told to.
        why: StopReason,
    },
    /// A worker died that nobody had told to leave, or that had to be ended for its own fault.
    Died {
        /// Its generation.
        worker: Generation,
        /// Its name.
        name: WorkerName,
        /// How.
        exit: Exit,
        /// What it was doing, e.g. `loading 430/1000` or `job 17 step 3/4`.
        doing: String,
        /// The job it ran.
        job: Option<JobId>,
        /// Deaths of the model in a row.
        in_a_row: u32,
        /// Until another may be started.
        backoff: Duration,
    },
    /// SIGKILL was sent and the kernel has not given the process back yet.
    NotReaped {
        /// Its generation.
        worker: Generation,
        /// Its name.
        name: WorkerName,
        /// Since the first SIGKILL.
        since: Duration,
    },
    /// A job lost its worker and waits for another.
    PlacedAgain {
        /// Which.
        job: JobId,
        /// Finished steps the next attempt goes on from.
        from_step: u32,
        /// The next attempt's number.
        attempt: u32,
    },
    /// An idle worker has to make room.
    Evicted {
        /// Who.
        name: WorkerName,
        /// For which model.
        for_model: ModelKey,
        /// What it gives back, over all devices.
        freed: Mebibytes,
    },
    /// Too many failures in a row.
    BreakerOpened {
        /// Which model.
        model: ModelKey,
        /// Failures in a row.
        failures: u32,
        /// What the last of them was.
        last: String,
        /// Until the first probe.
        for_long: Duration,
    },
    /// The probes went well.
    BreakerClosed {
        /// Which model.
        model: ModelKey,
    },
    /// A model could not be loaded.
    LoadCooling {
        /// Which model.
        model: ModelKey,
        /// Why.
        message: String,
        /// Until the next try.
        for_long: Duration,
    },
    /// A job killed too many workers.
    Quarantined {
        /// Which.
        job: JobId,
        /// What to name in `quarantine release`.
        digest: String,
        /// How each worker died.
        evidence: Vec<String>,
    },
    /// A dead process's memory was not confirmed in time.
    Unreclaimed {
        /// Whose.
        worker: Generation,
        /// Where.
        device: Device,
        /// How much.
        amount: Mebibytes,
    },
    /// Winding down began.
    Draining {
        /// Jobs still to answer.
        jobs: u64,
    },
    /// Requests are taken again.
    DrainUndone,
    /// A rule that the pool relies on does not hold: a mistake in the pool itself. It went on without the
    /// step that it could not take.
    Defect {
        /// The broken rule, with the ids it is about.
        what: String,
    },
}
