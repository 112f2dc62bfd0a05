//! Messages between a client and the supervisor.
//!
//! ```text
//!  client                              supervisor
//!    Hello ─────────────────────────▶
//!          ◀───────────────────────── Hello
//!    Generate ──────────────────────▶
//!          ◀───────────────────────── (Fetching …)                  where the model's files are not here
//!          ◀───────────────────────── Accepted | Refused
//!          ◀───────────────────────── Waiting … Loading … Step …      per job
//!    (Cancel)              ◀───────── Image… Finished | Failed        exactly one end per job
//! ```
//! One request at a time on a connection; operators' requests (`Status`, `Operate`) answer with
//! `Status…` or `Told`, or `Refused`.

use bincode::{Decode, Encode};

use crate::failure::Failure;
use crate::ids::{JobId, ModelKey, WorkerName};
use crate::messages::message;
use crate::reading::Reading;
use crate::request::ImageRequest;
use crate::status::StatusPart;
use crate::units::PictureSize;

/// Raw bytes that may follow one `Image` frame.
pub const CHUNK_BYTES_MAX: u32 = 256 * 1024;

/// A message from a client.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum ToPool {
    /// The first frame.
    Hello {
        /// Protocol version.
        protocol: u32,
    },
    /// Draw.
    Generate(ImageRequest),
    /// End a job; its own client gets the answer.
    Cancel {
        /// The job.
        job: JobId,
    },
    /// Tell everything.
    Status,
    /// An operator's verb.
    Operate(Verb),
}

message!(ToPool {
    Hello = 1, 16;
    Generate = 2, 64 * 1024;
    Cancel = 3, 16;
    Status = 4, 16;
    Operate = 5, 1024;
});

/// An operator's verb.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Verb {
    /// End workers and keep them down.
    Stop(Target),
    /// Start what was stopped.
    Start(Target),
    /// Stop, then start.
    Restart(Target),
    /// Drain and exit.
    Shutdown,
    /// Keep a model resident, or no longer.
    Pin {
        /// Key or alias.
        model: String,
        /// Resident from now on.
        pinned: bool,
    },
    /// Keep this many workers of a model, whatever the load is.
    Scale {
        /// Key or alias.
        model: String,
        /// How many.
        workers: u32,
    },
    /// Take nothing new, finish what is accepted, stay up until `Undrain` or `Shutdown`.
    Drain,
    /// End a job; its own client gets the answer.
    CancelJob {
        /// The job.
        job: JobId,
    },
    /// Say why a job waits.
    Why {
        /// The job.
        job: JobId,
    },
    /// Print the arithmetic of a picture.
    Plan {
        /// Key or alias.
        model: String,
        /// Pixels; `None` is the model's default.
        size: Option<PictureSize>,
    },
    /// List what is quarantined.
    Quarantined,
    /// Let a quarantined fingerprint in again; `None` is all of them.
    Release {
        /// As the list prints it.
        digest: Option<String>,
    },
    /// Take requests again after `Drain`.
    Undrain,
}

/// The workers that a verb applies to.
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
        /// The daemon's process.
        pid: u32,
    },
    /// The request became jobs with consecutive ids.
    Accepted(Accepted),
    /// It did not; nothing follows.
    Refused(Failure),
    /// A job waits.
    Waiting {
        /// The job.
        job: JobId,
        /// Its place, from 1.
        position: u32,
        /// Why, with numbers.
        reason: String,
    },
    /// A job's model is being loaded.
    Loading {
        /// The job.
        job: JobId,
        /// 0 to 1000.
        permille: u16,
    },
    /// A job finished a step.
    Step {
        /// The job.
        job: JobId,
        /// Steps finished, from 1.
        step: u32,
        /// Steps in all.
        steps: u32,
        /// Milliseconds since the attempt began.
        elapsed_ms: u32,
    },
    /// A part of a job's picture; `len` raw bytes follow the frame.
    Image {
        /// The job.
        job: JobId,
        /// The picture's place in the request, from 0.
        index: u32,
        /// Its size.
        size: PictureSize,
        /// A preview, not the answer.
        preview: bool,
        /// Where these bytes belong, in bytes from the start.
        offset: u64,
        /// How many follow.
        len: u32,
    },
    /// A job's picture was sent whole: its one answer.
    Finished {
        /// The job.
        job: JobId,
        /// How it came to be.
        report: JobReport,
    },
    /// A job's one answer when there is no picture.
    Failed {
        /// The job.
        job: JobId,
        /// Why.
        failure: Failure,
    },
    /// A part of a status report.
    Status(StatusPart),
    /// A verb was carried out.
    Told(Told),
    /// The request waits for its model's files; it is not a job yet, and its time limit does not run.
    Fetching(Fetching),
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
});

/// How far the files of a model are.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Fetching {
    /// The model.
    pub model: ModelKey,
    /// Bytes that are here.
    pub here_bytes: u64,
    /// Bytes in all; 0 until that is known.
    pub all_bytes: u64,
}

/// The result of an operator's verb.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Told {
    /// The results, one line per worker or model.
    pub lines: Vec<String>,
    /// Nothing went wrong; what was so already did not.
    pub success: bool,
    /// Another frame with more lines follows.
    pub more: bool,
}

/// Bytes of lines in one frame of a listing.
const TOLD_BYTES_MAX: usize = 32 * 1024;
/// Bytes of a line besides its text.
const LINE_BYTES: usize = 16;

impl Told {
    /// The same in as many frames as it takes. A line that fits in none is cut.
    pub fn into_parts(self) -> Vec<Self> {
        let part = |lines| Self {
            lines,
            success: self.success,
            more: true,
        };
        let (mut parts, mut lines, mut bytes) = (Vec::new(), Vec::new(), 0);
        for mut line in self.lines {
            line.truncate(line.floor_char_boundary(TOLD_BYTES_MAX - LINE_BYTES));
            let more = line.len() + LINE_BYTES;
            if bytes + more > TOLD_BYTES_MAX {
                parts.push(part(std::mem::take(&mut lines)));
                bytes = 0;
            }
            bytes += more;
            lines.push(line);
        }
        parts.push(Self {
            more: false,
            ..part(lines)
        });
        parts
    }
}

/// The jobs made from a request.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Accepted {
    /// The first job; `count` follow each other.
    pub first: JobId,
    /// Pictures, one job each.
    pub count: u32,
    /// The model chosen.
    pub model: ModelKey,
    /// The size chosen.
    pub size: PictureSize,
    /// The steps chosen.
    pub steps: u32,
    /// The seed of the first picture.
    pub seed: u64,
    /// Milliseconds that the model usually takes from the last step to the picture, where that is known.
    pub decode_ms: Option<u64>,
}

/// How a picture came to be.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct JobReport {
    /// The worker that finished it.
    pub worker: WorkerName,
    /// The seed of this picture.
    pub seed: u64,
    /// Placements it took.
    pub attempts: u32,
    /// The step from which the last attempt resumed; 0 from the start.
    pub resumed_from_step: u32,
    /// Accepted to placed.
    pub queue_ms: u64,
    /// Of that, waiting for a model to load.
    pub load_ms: u64,
    /// All steps.
    pub denoise_ms: u64,
    /// Latents to pixels.
    pub decode_ms: u64,
    /// The model's reading of the prompt.
    pub reading: Reading,
    /// The facts of a receipt besides the request.
    pub receipt: ReceiptFacts,
}

/// The facts of a receipt that only the pool knows.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct ReceiptFacts {
    /// Digest of the weights, hexadecimal SHA-256; empty where it is not known.
    pub digest: String,
    /// How the sigmas were chosen.
    pub sampler: String,
    /// The arithmetic of the transformer.
    pub dtype: String,
    /// The guidance used.
    pub guidance: f32,
}
