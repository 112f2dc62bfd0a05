//! What to do about it: the only thing that ever comes out of the pool.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ipc_protocol::failure::Failure;
use ipc_protocol::ids::{Device, Generation, JobId, ModelKey, WorkerName};
use ipc_protocol::units::{Mebibytes, PictureSize};

use crate::event::{Exit, Ticket};

/// One thing to do, in the imperative. The driver carries them out in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Tell the door its request became jobs; each is answered exactly once later.
    Accept(Accepted),
    /// Tell the door no.
    Refuse {
        /// The conversation.
        ticket: Ticket,
        /// Why.
        failure: Failure,
    },
    /// Tell an operator the result of a verb.
    Acknowledge {
        /// The conversation.
        ticket: Ticket,
        /// What to print, in supervisorctl's words.
        lines: Vec<String>,
        /// Nothing went wrong; what was so already did not.
        success: bool,
    },
    /// Make a worker process. Comes back as `WorkerStarted` or `WorkerStartFailed`.
    Start(Start),
    /// Give a job to an idle worker.
    Run(Run),
    /// Tell a worker to give its job up after the step it is in.
    Cancel {
        /// Which worker.
        worker: Generation,
        /// Which job.
        job: JobId,
    },
    /// Ask a worker in a frame to leave.
    AskToLeave {
        /// Which worker.
        worker: Generation,
    },
    /// Send it SIGTERM (as soon as it has a pid).
    Terminate {
        /// Which worker.
        worker: Generation,
    },
    /// Send its process group SIGKILL (as soon as it has a pid).
    Kill {
        /// Which worker.
        worker: Generation,
    },
    /// Ask the kernel for a worker's CPU time. Comes back as `CpuMeasured`.
    Measure {
        /// Which worker.
        worker: Generation,
    },
    /// Tell the job's door how it goes; may be dropped when the door is slow.
    Report {
        /// Which job.
        job: JobId,
        /// How it goes.
        progress: Progress,
    },
    /// The one answer of a job.
    Answer {
        /// Which job.
        job: JobId,
        /// How it ended.
        outcome: Outcome,
    },
    /// Something worth a log line, a metric and a line of `events`.
    Tell(Notice),
    /// Every worker is reaped and every job answered: leave.
    Exit,
}

/// What a request became.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    /// The conversation.
    pub ticket: Ticket,
    /// Consecutive; job i draws image i with seed `seed + i` (wrapping).
    pub jobs: Vec<JobId>,
    /// The model's own key.
    pub model: ModelKey,
    /// Pixels.
    pub size: PictureSize,
    /// Denoising steps.
    pub steps: u32,
    /// Guidance scale.
    pub guidance: f32,
    /// Seed of the first image.
    pub seed: u64,
    /// What the model usually takes from the last step to the picture, once that was measured.
    pub decode: Option<Duration>,
}

/// A worker to make.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// Its generation, never used before.
    pub worker: Generation,
    /// Its name; the slot is the lowest that was free.
    pub name: WorkerName,
    /// What it loads.
    pub model: ModelKey,
    /// Where it runs.
    pub device: Device,
    /// Memory promised to it, by device.
    pub reserved: BTreeMap<Device, Mebibytes>,
    /// Why it is made.
    pub reason: StartReason,
}

/// Why a worker is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartReason {
    /// Jobs wait and the model had no worker.
    ColdStart,
    /// Every worker was busy for too long.
    Growth,
    /// One died.
    Replacement,
    /// A job wished for a device without a worker.
    Wish,
    /// Pinned, `min_workers`, `start`ed or `scale`d.
    Floor,
}

/// A job for a worker. Resolved: nothing in it is a default any more.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Which worker.
    pub worker: Generation,
    /// Which job.
    pub job: JobId,
    /// What to draw.
    pub parameters: Parameters,
    /// Finished steps to go on from; the latents are in the driver's hands when above 0.
    pub from_step: u32,
    /// Counts from 1.
    pub attempt: u32,
}

/// What to draw, with every default filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    /// What to draw.
    pub prompt: Arc<str>,
    /// What not to draw.
    pub negative: Option<Arc<str>>,
    /// Pixels.
    pub size: PictureSize,
    /// Denoising steps.
    pub steps: u32,
    /// Guidance scale.
    pub guidance: f32,
    /// Of this image.
    pub seed: u64,
    /// Send a preview with each step.
    pub previews: bool,
}

/// How a job goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// It waits for a worker.
    Waiting {
        /// Its place, from 1.
        position: u32,
        /// Why, in a sentence with numbers.
        reason: String,
    },
    /// It waits for its model to load.
    Loading {
        /// How far, 0 to 1000.
        permille: u16,
    },
    /// A worker has it.
    Started {
        /// Which.
        worker: WorkerName,
        /// Counts from 1.
        attempt: u32,
        /// Finished steps it goes on from.
        from_step: u32,
    },
    /// A step is done.
    Step {
        /// Steps finished, from 1.
        index: u32,
        /// Steps in all.
        total: u32,
        /// Since the attempt began.
        elapsed: Duration,
    },
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// With a picture, which the driver holds.
    Picture(PictureFacts),
    /// Without one.
    Failure(Failure),
}

/// What is told with a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct PictureFacts {
    /// Who drew it.
    pub worker: WorkerName,
    /// Placements it took.
    pub attempts: u32,
    /// Finished steps the last attempt went on from.
    pub resumed_from_step: u32,
    /// From acceptance to its first placement, without loading.
    pub queue: Duration,
    /// The part of its wait in which its model was loading and nothing else could serve it.
    pub load: Duration,
    /// As the worker measured it, last attempt.
    pub denoise: Duration,
    /// As the worker measured it.
    pub decode: Duration,
    /// Of this image.
    pub seed: u64,
    /// Pixels.
    pub size: PictureSize,
    /// Denoising steps.
    pub steps: u32,
}

/// A fact about the pool worth telling, with the numbers a log line needs.
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
}

/// Why a worker is told to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// Idle for too long.
    Idle,
    /// To make room for another model.
    Evicted,
    /// An operator stopped or restarted it.
    Operator,
    /// An operator wants fewer workers of its model.
    Scaled,
    /// The pool winds down.
    Drain,
    /// Nobody waits for this load any more.
    Abandoned,
    /// No hello in time.
    NoHello,
    /// No sign of life in time.
    Silent,
    /// Signs of life, but no progress.
    Stuck,
    /// No progress for too long, and too little of the processor or of a disk to make any.
    Starved,
    /// It kept on with a cancelled job.
    IgnoredCancel,
    /// It broke the protocol.
    Protocol,
    /// Its model is no longer in the registry, or changed.
    Outdated,
}

impl StopReason {
    /// Nobody wanted it gone before it gave the reason: its end counts as a death.
    pub fn is_fault(self) -> bool {
        match self {
            Self::Idle
            | Self::Evicted
            | Self::Operator
            | Self::Scaled
            | Self::Drain
            | Self::Abandoned
            | Self::Outdated => false,
            Self::NoHello
            | Self::Silent
            | Self::Stuck
            | Self::Starved
            | Self::IgnoredCancel
            | Self::Protocol => true,
        }
    }

    /// The word for it in logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Evicted => "evicted",
            Self::Operator => "operator",
            Self::Scaled => "scaled",
            Self::Drain => "drain",
            Self::Abandoned => "abandoned",
            Self::NoHello => "no_hello",
            Self::Silent => "silent",
            Self::Stuck => "stuck",
            Self::Starved => "starved",
            Self::IgnoredCancel => "ignored_cancel",
            Self::Protocol => "protocol",
            Self::Outdated => "outdated",
        }
    }
}
