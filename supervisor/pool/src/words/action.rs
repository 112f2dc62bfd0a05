//! What the pool wants done: the only output of `Pool::handle`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ipc_protocol::failure::Failure;
use ipc_protocol::ids::{Device, Generation, JobId, ModelKey, WorkerName};
use ipc_protocol::units::{Mebibytes, PictureSize};

use crate::words::event::Ticket;
use crate::words::notice::Notice;
use crate::words::reasons::StartReason;

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
