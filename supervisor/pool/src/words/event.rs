//! The events: the only input of `Pool::handle`.

use std::time::Duration;

use ipc_protocol::failure::Failure;
use ipc_protocol::ids::{Device, Generation, JobId, ModelKey};
use ipc_protocol::messages::client::Target;
use ipc_protocol::messages::worker::JobFault;
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::Mebibytes;

use crate::words::lasting::{MeasuredNeed, QuarantinedRequest};
use crate::words::past::RestoredJob;
use crate::words::registry::Registry;
use crate::words::settings::Settings;

/// The driver's number for one conversation with a client; the pool only repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// One fact, in the past tense. Facts about an unknown generation change nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A client sent a request. Answered by `Accept`, `Refuse` or `AwaitFiles` in the same call.
    RequestArrived {
        ticket: Ticket,
        /// It has passed `ImageRequest::check`, and is checked again here.
        request: ImageRequest,
        /// The user whose share it counts against, e.g. `uid:1000`.
        user: String,
        /// Random bits for the seed if the request has none.
        entropy: u64,
    },
    /// An earlier daemon used the ids of jobs up to this one.
    JobIdsUsed { last: JobId },
    /// An earlier daemon accepted a job and did not answer it. It enters without the checks of a new request that
    /// concern other requests. Answered by `Accept`, `Refuse` or `AwaitFiles` in the same call.
    JobRestored {
        ticket: Ticket,
        job: Box<RestoredJob>,
    },
    /// An earlier daemon quarantined a request, and its time is not over.
    QuarantineRestored { request: Box<QuarantinedRequest> },
    /// Workers of an earlier daemon held this much memory.
    NeedRestored { need: MeasuredNeed },
    /// A client or an operator cancels a job.
    RequestCancelled {
        job: JobId,
        /// The name of the canceller, for the answer, e.g. `the client` or `uid:0`.
        by: String,
    },
    /// The connection behind a ticket is gone: its jobs that are not detached are cancelled.
    ClientGone { ticket: Ticket },
    /// The look or the fetch that a `Fetch` asked for has ended. `ModelsChanged` has told what it found, unless that
    /// was known before.
    FilesArrived { model: ModelKey },
    /// The look or the fetch that a `Fetch` asked for was not possible.
    FilesFailed { model: ModelKey, failure: Failure },
    /// The process of a `Start` exists.
    WorkerStarted { worker: Generation, pid: u32 },
    /// The process of a `Start` could not be made; no `WorkerExited` follows.
    WorkerStartFailed {
        worker: Generation,
        message: String,
        fault: StartFault,
    },
    /// Its first frame arrived and the versions agree; it loads now.
    WorkerSaidHello { worker: Generation },
    /// A further part of the model is loaded.
    LoadProgressed {
        worker: Generation,
        /// 0 to 1000.
        permille: u16,
    },
    /// The worker reports why it cannot load; its exit follows.
    LoadFailed { worker: Generation, message: String },
    /// The model is loaded.
    WorkerReady {
        worker: Generation,
        /// Memory it holds now, if it knows.
        footprint: Option<Footprint>,
    },
    /// A sign of life, nothing else.
    WorkerHeard { worker: Generation },
    /// A sign of life, with a count of work.
    WorkerWorked {
        worker: Generation,
        /// Pieces of work it has finished since it began: layers, blocks read from a disk.
        work: u64,
    },
    /// A step is finished and its latents are in the segment.
    StepFinished {
        worker: Generation,
        /// The job, according to the worker.
        job: JobId,
        /// Steps finished, counted from 1.
        step: u32,
    },
    /// The driver has copied the picture.
    JobFinished {
        worker: Generation,
        /// The job, according to the worker.
        job: JobId,
        phases: Phases,
    },
    /// The worker gave up its job and lives on.
    JobFailed {
        worker: Generation,
        /// The job, according to the worker.
        job: JobId,
        fault: JobFault,
    },
    /// An invalid frame, or a step out of order; the driver has closed the connection.
    WorkerBrokeProtocol { worker: Generation, what: String },
    /// The process has exited and is reaped.
    WorkerExited {
        worker: Generation,
        exit: Exit,
        /// Finished steps of its job whose latents the driver has copied: another attempt can resume after them.
        resume_step: Option<u32>,
    },
    /// The device's driver confirms that memory of a dead worker is free.
    MemoryReturned {
        worker: Generation,
        /// The part that the driver has not freed yet.
        left: Mebibytes,
    },
    /// The memory of a device was measured.
    MemoryMeasured {
        device: Device,
        /// Its size, if memory of other programs should count against it.
        total: Option<Mebibytes>,
        /// Held by workers of this pool.
        measured: Mebibytes,
        /// Held by other programs.
        foreign: Mebibytes,
    },
    /// The last measurement of a device is too old: until the next one no further memory is promised there.
    MeasurementAged { device: Device },
    /// Other programs answered an `AskTruce`, or could not be asked.
    TruceAnswered { device: Device },
    /// A device is gone, or its driver does not answer: no worker starts there until it is measured again.
    DeviceLost {
        device: Device,
        /// Why; part of a sentence.
        reason: String,
    },
    /// The memory of a worker was measured.
    FootprintMeasured {
        worker: Generation,
        footprint: Footprint,
    },
    /// A worker's CPU time: the answer to `Measure`, which always arrives.
    CpuMeasured {
        worker: Generation,
        /// Since it began; `None` if the process is gone or the kernel does not say.
        cpu: Option<CpuTime>,
    },
    /// `imagepool reload` or SIGHUP: new settings apply from now on, and what operators stopped may start again.
    SettingsChanged { settings: Box<Settings> },
    /// The registry was read again.
    ModelsChanged { registry: Box<Registry> },
    /// `imagepool start`. Answered by `Acknowledge` once it is done.
    StartRequested { ticket: Ticket, target: Target },
    /// `imagepool stop`. Answered by `Acknowledge` once the processes are reaped.
    StopRequested { ticket: Ticket, target: Target },
    /// `imagepool restart`: `stop`, then `start`.
    RestartRequested { ticket: Ticket, target: Target },
    /// `imagepool pin` or `imagepool unpin`.
    PinChanged {
        ticket: Ticket,
        /// Key or alias.
        model: String,
        pinned: bool,
    },
    /// `imagepool evict MODEL`: its idle workers leave.
    EvictRequested {
        ticket: Ticket,
        /// Key or alias.
        model: String,
    },
    /// `imagepool scale MODEL N`.
    Scaled {
        ticket: Ticket,
        /// Key or alias.
        model: String,
        /// Workers to keep, whatever the load is.
        workers: u32,
    },
    /// `imagepool yield SECONDS`: no worker and no job starts for a while, and workers without a job leave.
    YieldRequested {
        ticket: Ticket,
        /// How long; zero ends an earlier one.
        lasts: Duration,
    },
    /// An operator or a signal drains the pool, or takes that back.
    DrainRequested {
        /// The conversation, if there is one; acknowledged at once.
        ticket: Option<Ticket>,
        drain: Drain,
    },
    /// `imagepool quarantine list`.
    QuarantineListed {
        ticket: Ticket,
        /// The user who gets no prompt of other users; `None` for an operator.
        reader: Option<String>,
    },
    /// `imagepool quarantine release DIGEST`, or `imagepool quarantine drop` for all quarantined requests.
    QuarantineReleased {
        ticket: Ticket,
        /// The digest that `quarantine list` prints; `None` for all.
        digest: Option<String>,
    },
    /// The moment that `next_deadline` returned is reached.
    DeadlineReached,
    /// The driver could not run, and so could not hear any worker: it was suspended, or starved of CPU time.
    LoopStalled {
        /// How long, up to now.
        lasted: Duration,
    },
}

impl Event {
    /// The living worker that this event comes from, if it comes from one.
    pub fn said_by(&self) -> Option<Generation> {
        match self {
            Self::WorkerStarted { worker, .. }
            | Self::WorkerSaidHello { worker }
            | Self::LoadProgressed { worker, .. }
            | Self::LoadFailed { worker, .. }
            | Self::WorkerReady { worker, .. }
            | Self::WorkerHeard { worker }
            | Self::WorkerWorked { worker, .. }
            | Self::StepFinished { worker, .. }
            | Self::JobFinished { worker, .. }
            | Self::JobFailed { worker, .. }
            | Self::WorkerBrokeProtocol { worker, .. } => Some(*worker),
            Self::RequestArrived { .. }
            | Self::JobIdsUsed { .. }
            | Self::JobRestored { .. }
            | Self::QuarantineRestored { .. }
            | Self::NeedRestored { .. }
            | Self::RequestCancelled { .. }
            | Self::ClientGone { .. }
            | Self::FilesArrived { .. }
            | Self::FilesFailed { .. }
            | Self::WorkerStartFailed { .. }
            | Self::WorkerExited { .. }
            | Self::MemoryReturned { .. }
            | Self::MemoryMeasured { .. }
            | Self::MeasurementAged { .. }
            | Self::TruceAnswered { .. }
            | Self::DeviceLost { .. }
            | Self::FootprintMeasured { .. }
            | Self::CpuMeasured { .. }
            | Self::SettingsChanged { .. }
            | Self::ModelsChanged { .. }
            | Self::StartRequested { .. }
            | Self::StopRequested { .. }
            | Self::RestartRequested { .. }
            | Self::PinChanged { .. }
            | Self::EvictRequested { .. }
            | Self::Scaled { .. }
            | Self::YieldRequested { .. }
            | Self::DrainRequested { .. }
            | Self::QuarantineListed { .. }
            | Self::QuarantineReleased { .. }
            | Self::DeadlineReached
            | Self::LoopStalled { .. } => None,
        }
    }
}

/// Measured memory of a worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Of the host.
    pub host: Mebibytes,
    /// Of its accelerator; zero on the CPU.
    pub device: Mebibytes,
}

/// CPU time of a worker's threads, summed since each began. Only the difference of two samples says anything
/// about the present.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// On a CPU.
    pub ran: Duration,
    /// Ready to run without being given a CPU: others ran, or a quota was used up.
    pub waited: Duration,
    /// At the moment of the sample a thread waited for a disk or another device.
    pub blocked: bool,
}

/// Why a worker's process could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFault {
    /// The supervisor or its machine lacks something: processes, memory.
    Own,
    /// The supervisor has no file descriptor left.
    Descriptors,
    /// The worker program cannot be run.
    Program,
}

/// Where the time of a finished job went inside its worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Phases {
    /// Prompt to embeddings.
    pub encode: Duration,
    /// All steps of this attempt.
    pub denoise: Duration,
    /// Latents to pixels.
    pub decode: Duration,
}

/// The exit code of a process, or the signal that ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By a signal.
    Signal {
        signal: i32,
        /// The sender.
        by: KilledBy,
    },
}

/// The sender of the signal that ended a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KilledBy {
    /// The stop plan.
    Us,
    /// An operator, through this pool.
    Operator,
    /// The kernel, out of host memory, as the control group of the worker or of this daemon counts it.
    KernelOom,
    /// The kernel, because the worker used more memory than its own control group may.
    OwnLimit,
    /// The worker itself, by an abort after an allocation that failed.
    AllocationFailed,
    /// The kernel (SIGBUS), and the worker's model files have changed since it loaded them.
    CutFile,
    /// The worker itself (SIGSEGV, SIGABRT), or another program.
    Other,
}

/// How far to drain the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drain {
    /// Take no requests, finish the accepted jobs, stay up.
    Stay,
    /// The same within `Settings::drain`, then stop the workers and exit.
    Exit,
    /// Fail the accepted jobs and exit.
    ExitNow,
    /// Take requests again after `Stay`. `Exit` and `ExitNow` cannot be undone.
    Undo,
}
