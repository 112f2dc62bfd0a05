//! What happened: the only input of `Pool::handle`.

use std::time::Duration;

use ipc_protocol::failure::Field;
use ipc_protocol::ids::{Device, Generation, JobId, ModelKey, WorkerName};
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::Mebibytes;

use crate::words::registry::Registry;
use crate::words::settings::Settings;

/// A number the driver chose for one conversation with a door; the pool only repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// One fact, in the past tense. Facts about a generation the pool no longer knows change nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A door brought a request. Answered by `Accept` or `Refuse` in the same call.
    RequestArrived {
        /// The conversation it came from.
        ticket: Ticket,
        /// What is asked for; already passed `ImageRequest::check`, checked again here.
        request: ImageRequest,
        /// On whose behalf, e.g. `uid:1000`.
        user: String,
        /// Random bits for the seed where the request names none.
        entropy: u64,
    },
    /// Somebody wants a job ended.
    RequestCancelled {
        /// Which job.
        job: JobId,
        /// Who, for the answer's sentence, e.g. `the client` or `uid:0`.
        by: String,
    },
    /// The connection behind a ticket is gone: its jobs that are not detached are cancelled.
    ClientGone {
        /// The conversation that ended.
        ticket: Ticket,
    },
    /// The process of a `Start` exists.
    WorkerStarted {
        /// Its generation.
        worker: Generation,
        /// Its process.
        pid: u32,
    },
    /// The process of a `Start` could not be made; no exit follows.
    WorkerStartFailed {
        /// Its generation.
        worker: Generation,
        /// Why, for people.
        message: String,
        /// What was in the way.
        fault: StartFault,
    },
    /// Its first frame came and the versions agree; it loads now.
    WorkerSaidHello {
        /// Its generation.
        worker: Generation,
    },
    /// The load went on.
    LoadProgressed {
        /// Its generation.
        worker: Generation,
        /// How far, 0 to 1000.
        permille: u16,
    },
    /// The worker said why it cannot load; its exit follows.
    LoadFailed {
        /// Its generation.
        worker: Generation,
        /// Why, for people.
        message: String,
    },
    /// The model is resident.
    WorkerReady {
        /// Its generation.
        worker: Generation,
        /// What it holds now, where it could tell.
        footprint: Option<Footprint>,
    },
    /// A sign of life without other meaning.
    WorkerHeard {
        /// Its generation.
        worker: Generation,
    },
    /// A sign of life, with what was done.
    WorkerWorked {
        /// Its generation.
        worker: Generation,
        /// Finished pieces of work since it began, as it counts them: layers, blocks read from a disk.
        work: u64,
    },
    /// A step is done and its latents are in the segment.
    StepFinished {
        /// Its generation.
        worker: Generation,
        /// The job it says it works on.
        job: JobId,
        /// Steps finished, counted from 1.
        step: u32,
    },
    /// The picture is in the driver's hands.
    JobFinished {
        /// Its generation.
        worker: Generation,
        /// The job it says it finished.
        job: JobId,
        /// Where the time went.
        phases: Phases,
    },
    /// The worker gave the job up and lives.
    JobFailed {
        /// Its generation.
        worker: Generation,
        /// The job it says it gave up.
        job: JobId,
        /// Why.
        fault: Fault,
    },
    /// A frame that cannot be, or a step out of order; the driver has closed the link.
    WorkerBrokeProtocol {
        /// Its generation.
        worker: Generation,
        /// What was wrong, for people.
        what: String,
    },
    /// The kernel says the process is gone and it is reaped.
    WorkerExited {
        /// Its generation.
        worker: Generation,
        /// How.
        exit: Exit,
        /// The latents after this many finished steps of its job are in the driver's hands.
        salvaged_step: Option<u32>,
    },
    /// The device's driver confirms that a dead worker's memory is free.
    MemoryReturned {
        /// The dead worker.
        worker: Generation,
    },
    /// The probe looked at a device.
    MemoryMeasured {
        /// Which.
        device: Device,
        /// Its size, where others' use should count against it.
        total: Option<Mebibytes>,
        /// Held by our workers.
        measured: Mebibytes,
        /// Held by others.
        foreign: Mebibytes,
    },
    /// The probe looked at a worker.
    FootprintMeasured {
        /// Its generation.
        worker: Generation,
        /// What it holds.
        footprint: Footprint,
    },
    /// The kernel's count of a worker's CPU time: the answer to `Measure`, which always comes.
    CpuMeasured {
        /// Its generation.
        worker: Generation,
        /// Since it began; `None` where it is gone or the kernel does not tell.
        cpu: Option<CpuTime>,
    },
    /// New settings are in force from now on.
    SettingsChanged {
        /// All of them.
        settings: Box<Settings>,
    },
    /// The registry was read again.
    ModelsChanged {
        /// All of it.
        registry: Box<Registry>,
    },
    /// An operator said `start`. Answered by `Acknowledge` once it is done.
    StartRequested {
        /// The conversation.
        ticket: Ticket,
        /// What to start.
        target: Target,
    },
    /// An operator said `stop`. Answered by `Acknowledge` once the processes are reaped.
    StopRequested {
        /// The conversation.
        ticket: Ticket,
        /// What to stop.
        target: Target,
    },
    /// An operator said `restart`: `stop`, then `start`.
    RestartRequested {
        /// The conversation.
        ticket: Ticket,
        /// What to restart.
        target: Target,
    },
    /// An operator said `pin` or `unpin`.
    PinChanged {
        /// The conversation.
        ticket: Ticket,
        /// Key or alias.
        model: String,
        /// Pinned from now on.
        pinned: bool,
    },
    /// An operator said `scale MODEL N`.
    Scaled {
        /// The conversation.
        ticket: Ticket,
        /// Key or alias.
        model: String,
        /// Workers to keep, whatever the load is.
        workers: u32,
    },
    /// An operator or a signal wants the pool to wind down.
    DrainRequested {
        /// The conversation, where there is one; acknowledged at once.
        ticket: Option<Ticket>,
        /// How far.
        drain: Drain,
    },
    /// An operator wants to see what is quarantined.
    QuarantineListed {
        /// The conversation.
        ticket: Ticket,
    },
    /// An operator lets a quarantined fingerprint in again (`release`), or forgets all (`drop`).
    QuarantineReleased {
        /// The conversation.
        ticket: Ticket,
        /// The fingerprint's digest as `quarantine list` prints it; `None` is all of them.
        digest: Option<String>,
    },
    /// The moment `next_deadline` named is here.
    DeadlineReached,
    /// The driver could not run, and so could not hear any worker: it was stopped, or starved of processor time.
    LoopStalled {
        /// For how long, up to now.
        lasted: Duration,
    },
}

impl Event {
    /// The living worker that this comes from: what it sent, or that it was started.
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
            | Self::RequestCancelled { .. }
            | Self::ClientGone { .. }
            | Self::WorkerStartFailed { .. }
            | Self::WorkerExited { .. }
            | Self::MemoryReturned { .. }
            | Self::MemoryMeasured { .. }
            | Self::FootprintMeasured { .. }
            | Self::CpuMeasured { .. }
            | Self::SettingsChanged { .. }
            | Self::ModelsChanged { .. }
            | Self::StartRequested { .. }
            | Self::StopRequested { .. }
            | Self::RestartRequested { .. }
            | Self::PinChanged { .. }
            | Self::Scaled { .. }
            | Self::DrainRequested { .. }
            | Self::QuarantineListed { .. }
            | Self::QuarantineReleased { .. }
            | Self::DeadlineReached
            | Self::LoopStalled { .. } => None,
        }
    }
}

/// Memory a worker was seen to hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Of the host's.
    pub host: Mebibytes,
    /// Of its accelerator's; nothing on the CPU.
    pub device: Mebibytes,
}

/// CPU time of a worker's threads, added up since each began. Only differences between two samples say
/// anything about now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// On a CPU.
    pub ran: Duration,
    /// Ready to run without being given a CPU: others ran, or a quota was used up.
    pub waited: Duration,
    /// At the moment of the sample a thread waited for a disk or another device.
    pub blocked: bool,
}

/// What was in the way of a worker's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFault {
    /// The supervisor or its machine lacks something: descriptors, processes, memory.
    Own,
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

/// Why a living worker gave a job up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The request is at fault.
    BadRequest {
        /// Which field.
        field: Field,
        /// One sentence.
        message: String,
    },
    /// No memory for this job; the worker recovered.
    OutOfMemory {
        /// One sentence.
        message: String,
    },
    /// Values that are not finite.
    NotFinite {
        /// Where, e.g. `step 3`.
        stage: String,
    },
    /// It was told to.
    Cancelled,
    /// Anything else the model did.
    Other {
        /// One sentence.
        message: String,
    },
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By a signal.
    Signal {
        /// Its number.
        signal: i32,
        /// Who sent it.
        by: KilledBy,
    },
}

/// Who sent the signal that ended a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KilledBy {
    /// The stop plan.
    Us,
    /// The kernel, out of host memory, by the count of our own control group.
    KernelOom,
    /// The worker itself, by an abort after an allocation that failed.
    AllocationFailed,
    /// The worker's own fault (SIGSEGV, SIGABRT), or somebody else.
    Other,
}

/// What an operator's verb is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Everything.
    All,
    /// Every worker of a model.
    Model(ModelKey),
    /// One worker.
    Worker(WorkerName),
}

/// How far to wind down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drain {
    /// Take nothing new, finish what is accepted, stay up.
    Stay,
    /// The same within `drain`, then end the workers and exit.
    Exit,
    /// Cancel what is accepted and exit.
    ExitNow,
    /// Take requests again after `Stay`. What was told to exit does.
    Undo,
}
