//! Messages between the supervisor and a worker.
//!
//! ```text
//!  supervisor                         worker
//!     Welcome ───────────────────────▶ moves fd 1 away, checks version, parent and segment
//!             ◀─────────────────────── Hello, then Loading …, Heartbeat …
//!             ◀─────────────────────── Ready
//!     Run ───────────────────────────▶
//!             ◀─────────────────────── Step …            latents are in the slot it names
//!     (Cancel)                ◀─────── Done | Failed     the picture is in the segment
//!     Leave ─────────────────────────▶ exits with 0
//! ```

use bincode::{Decode, Encode};

use crate::arithmetic::{Arithmetic, Dtype};
use crate::failure::Field;
use crate::ids::{Device, Generation, JobId};
use crate::messages::message;
use crate::reading::Reading;
use crate::segment::{Geometry, Slot};
use crate::units::PictureSize;

/// A message from the supervisor.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum ToWorker {
    /// The first frame: who you are and what you serve.
    Welcome(Welcome),
    /// Draw this.
    Run(Order),
    /// Stop drawing it between two steps.
    Cancel {
        /// The job in work; another id changes nothing.
        job: JobId,
    },
    /// Finish nothing more and exit with 0.
    Leave,
}

message!(ToWorker {
    Welcome = 1, 16 * 1024;
    Run = 2, 64 * 1024;
    Cancel = 3, 16;
    Leave = 4, 16;
});

/// A message from a worker.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum FromWorker {
    /// The first frame.
    Hello {
        /// Protocol version.
        protocol: u32,
        /// The process.
        pid: u32,
        /// The generation it was greeted with.
        generation: Generation,
    },
    /// How far the weights are.
    Loading {
        /// 0 to 1000.
        permille: u16,
    },
    /// Weights are in place; it takes jobs from now on.
    Ready {
        /// Most memory the process has held so far, in bytes.
        peak_bytes: u64,
        /// The dtype that it computes in.
        dtype: Dtype,
        /// Why that is another than the welcome's, where it is; one sentence.
        because: Option<String>,
    },
    /// Alive; sent every half second by a thread of its own.
    Heartbeat {
        /// Memory the process holds, in bytes.
        resident_bytes: u64,
        /// Pieces of work finished since the process began; it rises while the worker makes progress within a
        /// step or a load.
        work: u64,
    },
    /// A step is finished and its latents are in the segment.
    Step {
        /// The job.
        job: JobId,
        /// Steps finished, counted from 1.
        step: u32,
        /// Where the latents are.
        slot: Slot,
        /// Bytes of them.
        bytes: u64,
        /// A preview of this size is in the preview slot.
        preview: Option<PictureSize>,
        /// Milliseconds the step took.
        elapsed_ms: u32,
    },
    /// The picture is in the segment's picture slot.
    Done {
        /// The job.
        job: JobId,
        /// Its size, which the supervisor compares with the order.
        size: PictureSize,
        /// The model's reading of the prompt.
        reading: Reading,
        /// Where the time went.
        timings: Timings,
        /// Most memory the process has held so far, in bytes.
        peak_bytes: u64,
    },
    /// The job ended otherwise; the worker is ready for the next one unless it exits.
    Failed {
        /// The job.
        job: JobId,
        /// Why.
        fault: JobFault,
    },
    /// The worker cannot go on and exits after this frame.
    GivingUp {
        /// One sentence.
        message: String,
    },
}

message!(FromWorker {
    Hello = 1, 64;
    Loading = 2, 16;
    Ready = 3, 1024;
    Heartbeat = 4, 32;
    Step = 5, 128;
    Done = 6, 2 * 1024;
    Failed = 7, 4 * 1024;
    GivingUp = 8, 4 * 1024;
});

/// The worker's name and the model that it serves.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Welcome {
    /// Protocol version.
    pub protocol: u32,
    /// This life of the worker.
    pub generation: Generation,
    /// The parent the worker must have; another one means the supervisor is gone.
    pub supervisor_pid: u32,
    /// The weights to load.
    pub source: ModelSource,
    /// Where.
    pub device: Device,
    /// Threads for the model's arithmetic.
    pub threads: u32,
    /// The dtype to compute in, and where the encoders live.
    pub arithmetic: Arithmetic,
    /// How the segment on descriptor 1 is laid out.
    pub geometry: Geometry,
    /// The stamp of the folder's files when they were inspected, as `--inspect` printed it; a worker that finds
    /// another one gives up. Empty if unknown. Empty: not known.
    pub stamp: String,
}

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum ModelSource {
    /// Inside the worker's program, under this key.
    Embedded {
        /// `pocket-flux`.
        key: String,
    },
    /// A folder of verified files.
    Folder {
        /// Its absolute path.
        path: String,
        /// `flux` or `sd3`; `None` is found by looking.
        family: Option<String>,
    },
    /// No weights: a pattern from the seed, for tests and measurements.
    Synthetic {
        /// Milliseconds a step takes.
        step_ms: u32,
        /// Milliseconds a load takes.
        load_ms: u32,
        /// MiB of memory it really touches.
        weights_mb: u32,
    },
}

/// One picture to draw, every field resolved and in the model's range.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Order {
    /// The job.
    pub job: JobId,
    /// The prompt.
    pub prompt: String,
    /// The negative prompt.
    pub negative: Option<String>,
    /// Pixels.
    pub size: PictureSize,
    /// Denoising steps.
    pub steps: u32,
    /// Guidance scale.
    pub guidance: f32,
    /// Seed of the noise.
    pub seed: u64,
    /// Steps already done; their latents are in the resume slot.
    pub from_step: u32,
    /// Bytes of those latents.
    pub resume_bytes: u64,
    /// A client wants previews.
    pub previews: bool,
}

/// Why a job did not end in a picture.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum JobFault {
    /// A value that only the worker can judge.
    BadRequest {
        /// The field.
        field: Field,
        /// One sentence.
        message: String,
    },
    /// Memory ran out; the worker exits.
    OutOfMemory {
        /// The allocation that failed, in words.
        message: String,
    },
    /// The arithmetic left the finite numbers.
    NotFinite {
        /// The stage it was seen in.
        stage: String,
    },
    /// Cancelled as asked.
    Cancelled,
    /// Anything else.
    Other {
        /// One sentence.
        message: String,
    },
}

/// Where a job's time went, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Timings {
    /// Prompt to embeddings.
    pub encode_ms: u32,
    /// All steps of this attempt.
    pub denoise_ms: u32,
    /// Latents to pixels.
    pub decode_ms: u32,
}
