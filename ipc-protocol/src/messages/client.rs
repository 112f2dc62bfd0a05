//! The messages between a client and the supervisor.
//!
//! ```text
//!  client                              supervisor
//!    Hello ─────────────────────────▶
//!          ◀───────────────────────── Hello
//!    Generate ──────────────────────▶
//!          ◀───────────────────────── (Fetching …)                  if the model's files are missing
//!          ◀───────────────────────── Accepted | Refused
//!          ◀───────────────────────── Waiting … Loading … Step …      for each job
//!    (Cancel)              ◀───────── Image… Finished | Failed        exactly one end for each job
//! ```
//! A connection carries one request at a time. `Status`, `Jobs`, `Obituaries`, `Available` and `Operate` are answered with
//! `Status…`, `Job…`, `Obituary…`, `Available…` and `Told`, or with `Refused`; `Tail` and `Events` with `Log…` and `Event…` up to
//! `LogEnd` and `EventsEnd`, which a request that follows never gets. Nothing follows `Accepted` if the request is detached:
//! `Wait` follows one of its jobs, with
//! `Texts`, and then with the messages of a request.

use bincode::{Decode, Encode};

use crate::event::EventReport;
use crate::failure::Failure;
use crate::ids::{JobId, ModelKey, WorkerName};
use crate::job::JobStatus;
use crate::lines;
use crate::log::{LogLines, LogRequest};
use crate::messages::message;
use crate::obituary::Obituary;
use crate::reading::Reading;
use crate::request::ImageRequest;
use crate::status::StatusPart;
use crate::units::PictureSize;

/// The largest number of raw bytes after one `Image` frame.
pub const CHUNK_BYTES_MAX: u32 = 256 * 1024;

/// A message from a client.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum ToPool {
    /// The first frame.
    Hello {
        /// Protocol version.
        protocol: u32,
    },
    /// Draws pictures.
    Generate(ImageRequest),
    /// Cancels a job. The client that requested it gets the answer.
    Cancel {
        /// The job.
        job: JobId,
    },
    /// Requests the status report.
    Status,
    /// An operator's command.
    Operate(Verb),
    /// Follows a job of an earlier request until its answer. Closing the connection does not cancel it.
    Wait {
        /// The job.
        job: JobId,
    },
    /// Lists the user's jobs; for an operator, those of all users.
    Jobs,
    /// Requests the end of a log.
    Tail(LogRequest),
    /// Lists the newest events of the pool, oldest first.
    Events {
        /// True to send further events too, until the client disconnects.
        follow: bool,
    },
    /// Lists the models of the settings file, and whether the daemon uses them.
    Available,
    /// Requests the obituaries of workers, newest first.
    Obituaries {
        /// The workers.
        of: Target,
        /// Most obituaries.
        most: u32,
    },
}

message!(ToPool {
    Hello = 1, 16;
    Generate = 2, 64 * 1024;
    Cancel = 3, 16;
    Status = 4, 16;
    Operate = 5, 16 * 1024;
    Wait = 6, 16;
    Jobs = 7, 16;
    Tail = 8, 256;
    Events = 9, 16;
    Available = 22, 16;
    Obituaries = 10, 1024;
});

/// An operator's command.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Verb {
    /// Stops workers until `Start` or `Restart`.
    Stop(Target),
    /// Starts workers, and lifts an earlier `Stop`.
    Start(Target),
    /// Stops, then starts workers.
    Restart(Target),
    /// Finishes accepted jobs and exits.
    Shutdown,
    /// Keeps a model resident, or stops doing so.
    Pin {
        /// Key or alias of the model.
        model: String,
        /// True to keep the model resident.
        pinned: bool,
    },
    /// Keeps a fixed number of workers of a model, independent of the load.
    Scale {
        /// Key or alias of the model.
        model: String,
        /// Number of workers.
        workers: u32,
    },
    /// Accepts no new requests and finishes accepted jobs; lasts until `Undrain` or `Shutdown`.
    Drain,
    /// Cancels a job. The client that requested it gets the answer.
    CancelJob {
        /// The job.
        job: JobId,
    },
    /// Explains why a job waits.
    Why {
        /// The job.
        job: JobId,
    },
    /// Explains how much memory a picture needs.
    Plan {
        /// Key or alias of the model.
        model: String,
        /// Size in pixels; `None` is the model's default.
        size: Option<PictureSize>,
    },
    /// Lists the quarantined fingerprints.
    Quarantined,
    /// Accepts a quarantined fingerprint again; `None` releases all of them.
    Release {
        /// The fingerprint as printed by the list.
        digest: Option<String>,
    },
    /// Accepts requests again after `Drain`.
    Undrain,
    /// Ends the idle workers of a model; the next request starts workers again.
    Evict {
        /// Key or alias of the model.
        model: String,
    },
    /// Sends a signal to workers.
    Signal {
        /// Name or number of the signal: `HUP`, `SIGHUP`, `1`.
        signal: String,
        /// The workers.
        target: Target,
    },
    /// Forgets the lines that workers have written so far.
    Clear(Target),
    /// Reads the settings file and compares it with the settings in use; changes nothing.
    Reread,
    /// Reads the settings file, and adds, replaces and removes models that differ.
    Update {
        /// Keys of the models to update; empty for all.
        models: Vec<String>,
    },
    /// Reads the settings file, updates all models, and takes over every setting that can change without a restart.
    Reload,
    /// Leaves the memory of all workers without a job to other programs for a while.
    Yield {
        /// How long, in seconds; 0 ends an earlier one.
        seconds: u32,
    },
}

/// The workers that a command applies to.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Target {
    /// Every model.
    All,
    /// Every worker of a model.
    Model(ModelKey),
    /// One worker.
    Worker(WorkerName),
}

/// A message from the supervisor to a client.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum FromPool {
    /// The first frame.
    Hello {
        /// Protocol version.
        protocol: u32,
        /// Build version.
        version: String,
        /// Process id of the daemon.
        pid: u32,
    },
    /// The request became jobs with consecutive ids.
    Accepted(Accepted),
    /// The daemon refused the connection or the client's request. This is the last message about it.
    Refused(Failure),
    /// A job waits.
    Waiting {
        /// The job.
        job: JobId,
        /// Position in the queue, from 1.
        position: u32,
        /// The reason, with numbers.
        reason: String,
    },
    /// A job's model is being loaded.
    Loading {
        /// The job.
        job: JobId,
        /// Progress from 0 to 1000.
        permille: u16,
    },
    /// A job finished a step.
    Step {
        /// The job.
        job: JobId,
        /// The finished step, from 1.
        step: u32,
        /// Total number of steps.
        steps: u32,
        /// Milliseconds since the attempt began.
        elapsed_ms: u32,
    },
    /// A part of a job's picture. `len` raw bytes follow the frame.
    Image {
        /// The job.
        job: JobId,
        /// The picture's place in the request, from 0.
        index: u32,
        /// Size of the whole picture.
        size: PictureSize,
        /// True for a preview, false for the finished picture.
        preview: bool,
        /// Offset of these bytes in the picture.
        offset: u64,
        /// Number of bytes that follow.
        len: u32,
    },
    /// All parts of a job's picture were sent; this is the job's only answer.
    Finished {
        /// The job.
        job: JobId,
        /// Worker, seed and times of the job.
        report: JobReport,
    },
    /// The job failed; this is the job's only answer.
    Failed {
        /// The job.
        job: JobId,
        /// The reason.
        failure: Failure,
    },
    /// A part of a status report.
    Status(StatusPart),
    /// The result of an operator's command.
    Told(Told),
    /// The files of the request's model are being fetched. The request is not a job yet, and its timeout
    /// does not run.
    Fetching(Fetching),
    /// The prompt of the job that a client waits for.
    Texts(PromptTexts),
    /// One job of the list.
    Job(Box<JobStatus>),
    /// The end of the list of jobs.
    JobsEnd,
    /// Lines of a log.
    Log(LogLines),
    /// The end of the lines; none follows a request that follows the log.
    LogEnd,
    /// One event.
    Event(EventReport),
    /// The end of the events; none follows a request that follows them.
    EventsEnd,
    /// Models of the settings file.
    Available(AvailableModels),
    /// One obituary.
    Obituary(Box<Obituary>),
    /// The end of the obituaries.
    ObituariesEnd,
}

message!(FromPool {
    Hello = 1, 128;
    Accepted = 2, 256;
    Refused = 3, 4 * 1024;
    Waiting = 4, 4 * 1024;
    Loading = 5, 32;
    Step = 6, 64;
    Image = 7, 64;
    Finished = 8, 4 * 1024;
    Failed = 9, 4 * 1024;
    Status = 10, 16 * 1024;
    Told = 11, 64 * 1024;
    Fetching = 12, 128;
    Texts = 13, 64 * 1024;
    Job = 14, 8 * 1024;
    JobsEnd = 15, 16;
    Log = 16, 64 * 1024;
    LogEnd = 17, 16;
    Event = 18, 32 * 1024;
    EventsEnd = 19, 16;
    Available = 22, 64 * 1024;
    Obituary = 20, 64 * 1024;
    ObituariesEnd = 21, 16;
});

/// Progress of fetching a model's files.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Fetching {
    /// The model.
    pub model: ModelKey,
    /// Bytes that were fetched.
    pub here_bytes: u64,
    /// Total bytes; 0 until that is known.
    pub all_bytes: u64,
}

/// The texts of a request, which its receipt needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct PromptTexts {
    /// The prompt.
    pub prompt: String,
    /// The negative prompt.
    pub negative: Option<String>,
}

/// The result of an operator's command, line by line.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Told {
    /// The results, one line per worker or model.
    pub lines: Vec<String>,
    /// True if nothing went wrong. A model or worker that already was in the wanted state is no error.
    pub success: bool,
    /// True if another frame with more lines follows.
    pub more: bool,
}

impl Told {
    /// Splits the result into frames. A line longer than a frame is cut.
    pub fn into_parts(self) -> Vec<Self> {
        let parts = lines::split(self.lines);
        let last = parts.len() - 1;
        (0..)
            .zip(parts)
            .map(|(nth, lines)| Self {
                lines,
                success: self.success,
                more: nth < last,
            })
            .collect()
    }
}

/// Models of the settings file, by key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AvailableModels {
    /// The models of this frame.
    pub models: Vec<AvailableModel>,
    /// True if another frame with more models follows.
    pub more: bool,
}

/// One model of the settings file.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AvailableModel {
    /// The model.
    pub key: ModelKey,
    /// False if the daemon does not use it before an `Update`.
    pub in_use: bool,
    /// True if it has workers without a request for it: it is pinned, or keeps a minimum number of workers.
    pub auto: bool,
}

impl AvailableModels {
    /// The largest number of models in one frame.
    const PART_MAX: usize = 256;

    /// Splits the models into frames; there is at least one.
    pub fn into_parts(self) -> Vec<Self> {
        let mut left = self.models.into_iter().peekable();
        let mut parts = Vec::new();
        loop {
            let models = left.by_ref().take(Self::PART_MAX).collect();
            let more = left.peek().is_some();
            parts.push(Self { models, more });
            if !more {
                return parts;
            }
        }
    }
}

/// The jobs of an accepted request, with the values chosen for it.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Accepted {
    /// The first job; the `count` jobs have consecutive ids.
    pub first: JobId,
    /// Number of pictures, one job each.
    pub count: u32,
    /// The model chosen.
    pub model: ModelKey,
    /// The size chosen.
    pub size: PictureSize,
    /// The steps chosen.
    pub steps: u32,
    /// The seed of the first picture.
    pub seed: u64,
    /// Usual milliseconds from the last step to the picture, if known.
    pub decode_ms: Option<u64>,
}

/// Worker, seed, attempts and times of a finished job.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct JobReport {
    /// The worker that finished it.
    pub worker: WorkerName,
    /// The seed of this picture.
    pub seed: u64,
    /// Number of attempts.
    pub attempts: u32,
    /// The step that the last attempt resumed from; 0 if it began from noise.
    pub resume_step: u32,
    /// Milliseconds from acceptance to placement.
    pub queue_ms: u64,
    /// The part of `queue_ms` spent waiting for a model to load.
    pub load_ms: u64,
    /// Milliseconds of all steps.
    pub denoise_ms: u64,
    /// Milliseconds from latents to pixels.
    pub decode_ms: u64,
    /// The model's reading of the prompt.
    pub reading: Reading,
    /// The facts of a receipt besides the request.
    pub receipt: ReceiptFacts,
    /// False if the daemon's operator wants neither receipts nor marks in files.
    pub metadata: bool,
}

/// Facts of a receipt that only the pool knows.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct ReceiptFacts {
    /// SHA-256 digest of the weights in hexadecimal; empty if unknown.
    pub digest: String,
    /// The schedule of the sigmas.
    pub sampler: String,
    /// The dtype that the transformer computed in.
    pub dtype: String,
    /// The guidance scale used.
    pub guidance: f32,
}
