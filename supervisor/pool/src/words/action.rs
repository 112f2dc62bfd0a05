//! The pool's actions: the only output of `Pool::handle`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ipc_protocol::failure::Failure;
use ipc_protocol::ids::{Device, Generation, JobId, ModelKey, WorkerName};
use ipc_protocol::units::{Mebibytes, PictureSize};

use crate::words::event::Ticket;
use crate::words::lasting::LastingFact;
use crate::words::notice::Notice;
use crate::words::reasons::StartReason;

/// One thing to do. The driver carries actions out in their order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Tell a client that its request became jobs; each is answered exactly once later.
    Accept(AcceptedJobs),
    /// Refuse a request.
    Refuse { ticket: Ticket, failure: Failure },
    /// Tell a client that its request waits for the files of its model. `Accept` or `Refuse` follows.
    AwaitFiles {
        ticket: Ticket,
        /// The model's own key.
        model: ModelKey,
        /// The ids that its jobs will have, consecutive.
        jobs: Vec<JobId>,
    },
    /// Look at the files of a model, and fetch those that are missing. Answered by `FilesArrived` or `FilesFailed`.
    Fetch { model: ModelKey },
    /// Stop fetching the files of a model: no request waits for them.
    StopFetch { model: ModelKey },
    /// Tell an operator the result of a command.
    Acknowledge {
        ticket: Ticket,
        /// Lines to print, in supervisorctl's words.
        lines: Vec<String>,
        /// Nothing failed. A target that was in the wanted state already is no failure.
        success: bool,
    },
    /// Start a worker process. Answered by `WorkerStarted` or `WorkerStartFailed`.
    Start(Start),
    /// Give a job to an idle worker.
    Run(Run),
    /// Tell a worker to give up its job after the present step.
    Cancel { worker: Generation, job: JobId },
    /// Ask a worker by a message to exit.
    AskToLeave { worker: Generation },
    /// Send it SIGTERM, as soon as it has a pid.
    Terminate { worker: Generation },
    /// Send its process group SIGKILL, as soon as it has a pid.
    Kill { worker: Generation },
    /// Measure a worker's CPU time. Answered by `CpuMeasured`.
    Measure { worker: Generation },
    /// Ask other programs for the memory of a device. Answered by `TruceAnswered`.
    AskTruce { device: Device },
    /// Tell other programs that the memory of a device is theirs again.
    EndTruce { device: Device },
    /// Report a job's progress to its client; may be dropped if the client is slow.
    Report { job: JobId, progress: Progress },
    /// The one answer of a job.
    Answer { job: JobId, outcome: Outcome },
    /// Write a fact down for the next daemon, soon.
    Remember(LastingFact),
    /// Write a log line, and count it.
    Tell(Notice),
    /// Every worker is reaped and every job answered: exit.
    Exit,
}

/// The jobs that a request became.
#[derive(Debug, Clone, PartialEq)]
pub struct AcceptedJobs {
    pub ticket: Ticket,
    /// Consecutive; job i draws image i with seed `seed + i` (wrapping).
    pub jobs: Vec<JobId>,
    /// The model's own key.
    pub model: ModelKey,
    pub size: PictureSize,
    pub steps: u32,
    pub guidance: f32,
    /// Seed of the first image.
    pub seed: u64,
    /// Usual time from the last step to the picture; `None` if not measured.
    pub decode: Option<Duration>,
    /// Digest of the model's weights, or what identifies the model without one.
    pub digest: String,
}

/// A worker to start.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// Its generation, never used before.
    pub worker: Generation,
    /// Its name; the slot is the lowest that was free.
    pub name: WorkerName,
    pub model: ModelKey,
    pub device: Device,
    /// Memory promised to it, by device.
    pub reserved: BTreeMap<Device, Mebibytes>,
    pub reason: StartReason,
    /// It takes the place of a worker of its model that died.
    pub replaces: bool,
}

/// A job for a worker, with every default filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub worker: Generation,
    pub job: JobId,
    pub parameters: Parameters,
    /// Finished steps to resume after. Above 0 the driver holds the latents.
    pub resume_step: u32,
    /// Counts from 1.
    pub attempt: u32,
}

/// The parameters of a picture, with every default filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    pub prompt: Arc<str>,
    /// The negative prompt.
    pub negative: Option<Arc<str>>,
    pub size: PictureSize,
    pub steps: u32,
    pub guidance: f32,
    /// Of this image.
    pub seed: u64,
    /// Send a preview with each step.
    pub previews: bool,
}

/// The progress of a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// It waits for a worker.
    Waiting {
        /// From 1.
        position: u32,
        /// Why, in a sentence with numbers.
        reason: String,
    },
    /// It waits for its model to load.
    Loading {
        /// 0 to 1000.
        permille: u16,
    },
    /// A worker has begun it.
    Started {
        worker: WorkerName,
        /// Counts from 1.
        attempt: u32,
        /// Finished steps it resumes after.
        resume_step: u32,
    },
    /// A step is finished.
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
    /// Without a picture.
    Failure(Failure),
}

/// The facts of a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct PictureFacts {
    pub worker: WorkerName,
    /// Placements it took.
    pub attempts: u32,
    /// Finished steps that the last attempt resumed after.
    pub resume_step: u32,
    /// From acceptance to its first placement, without loading.
    pub queue: Duration,
    /// The part of its wait in which its model was loading and no other worker could serve it.
    pub load: Duration,
    /// Of the last attempt, as the worker measured it.
    pub denoise: Duration,
    /// As the worker measured it.
    pub decode: Duration,
    /// Of this image.
    pub seed: u64,
    pub size: PictureSize,
    pub steps: u32,
}
