//! The messages between the supervisor and a worker.
//!
//! ```text
//!  supervisor                         worker
//!     Welcome ───────────────────────▶ moves fd 1, checks version, parent and segment
//!             ◀─────────────────────── Hello, then Loading …, Heartbeat …
//!             ◀─────────────────────── Ready
//!     Run ───────────────────────────▶
//!             ◀─────────────────────── Step …            the latents are in the slot it names
//!     (Cancel)                ◀─────── Done | Failed     the picture is in the segment
//!     Leave ─────────────────────────▶ exits with 0
//! ```

use bincode::{Decode, Encode};

use crate::arithmetic::{Arithmetic, Decoding, Dtype};
use crate::failure::Field;
use crate::ids::{Device, Generation, JobId};
use crate::messages::message;
use crate::reading::Reading;
use crate::sandbox::SandboxReached;
use crate::segment::{Geometry, Slot};
use crate::units::PictureSize;

/// A message from the supervisor to a worker.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum ToWorker {
    /// The first frame: the worker's generation and model.
    Welcome(Welcome),
    /// Draws one picture.
    Run(JobOrder),
    /// Cancels the running job after its current step.
    Cancel {
        /// The running job; another id is ignored.
        job: JobId,
    },
    /// Exits with 0 at once, without finishing a job.
    Leave,
}

message!(ToWorker {
    Welcome = 1, 16 * 1024;
    Run = 2, 64 * 1024;
    Cancel = 3, 16;
    Leave = 4, 16;
});

/// A message from a worker to the supervisor.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum FromWorker {
    /// The first frame.
    Hello {
        /// Protocol version.
        protocol: u32,
        /// Process id of the worker.
        pid: u32,
        /// The generation from `Welcome`.
        generation: Generation,
        /// How far it has confined itself.
        sandbox: SandboxReached,
    },
    /// Progress of loading the weights.
    Loading {
        /// Progress from 0 to 1000.
        permille: u16,
    },
    /// The weights are loaded; the worker accepts jobs from now on.
    Ready {
        /// Peak memory of the process so far, in bytes.
        peak_bytes: u64,
        /// The dtype that it computes in.
        dtype: Dtype,
        /// The reason in one sentence, if it is not the dtype of `Welcome`.
        because: Option<String>,
    },
    /// A sign of life, sent every half second by a separate thread.
    Heartbeat {
        /// Resident memory of the process, in bytes.
        resident_bytes: u64,
        /// Pieces of work finished since the process started. It rises while the worker makes progress within
        /// a step or a load.
        work: u64,
    },
    /// A step is finished, and its latents are in the segment.
    Step {
        /// The job.
        job: JobId,
        /// The finished step, from 1.
        step: u32,
        /// The slot that holds the latents.
        slot: Slot,
        /// Number of bytes of the latents.
        bytes: u64,
        /// Size of the preview in the preview slot, if there is one.
        preview: Option<PictureSize>,
        /// Milliseconds that the step took.
        elapsed_ms: u32,
    },
    /// The picture is in the segment's picture slot.
    Done {
        /// The job.
        job: JobId,
        /// Size of the picture. The supervisor compares it with the requested one.
        size: PictureSize,
        /// The model's reading of the prompt.
        reading: Reading,
        /// Milliseconds of each phase.
        timings: Timings,
        /// Peak memory of the process so far, in bytes.
        peak_bytes: u64,
    },
    /// The job ended without a picture. The worker is ready for the next job unless it exits.
    Failed {
        /// The job.
        job: JobId,
        /// The reason.
        fault: JobFault,
    },
    /// The worker cannot continue and exits after this frame.
    GivingUp {
        /// The reason in one sentence.
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

/// The generation of a worker, its model and its settings.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Welcome {
    /// Protocol version.
    pub protocol: u32,
    /// Generation of the worker.
    pub generation: Generation,
    /// Process id that the worker's parent must have; another one means that the supervisor is gone.
    pub supervisor_pid: u32,
    /// The weights to load.
    pub source: ModelSource,
    /// The device to load it on.
    pub device: Device,
    /// Number of threads that compute.
    pub threads: u32,
    /// The requested dtype, and the placement of the text encoders.
    pub arithmetic: Arithmetic,
    /// Layout of the segment on descriptor 1.
    pub geometry: Geometry,
    /// Stamp of the model's files as `--inspect` printed it. A worker that finds other files gives up. Empty
    /// if unknown.
    pub stamp: String,
    /// The way of decoding pictures.
    pub decoding: Decoding,
}

/// The source of a model's weights.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum ModelSource {
    /// Embedded in the worker program.
    Embedded {
        /// Key of the embedded model, such as `pocket-flux`.
        key: String,
    },
    /// A folder of verified files.
    Folder {
        /// Absolute path of the folder.
        path: String,
        /// Name of the family; `None` if the worker is to recognise it from the files.
        family: Option<String>,
    },
    /// No weights: draws a pattern from the seed, for tests and measurements.
    Synthetic {
        /// Milliseconds a step takes.
        step_ms: u32,
        /// Milliseconds a load takes.
        load_ms: u32,
        /// MiB of memory that the worker allocates and writes to.
        weights_mb: u32,
        /// MiB of its GPU that stand in for the weights there; the family computes on the CPU and takes none itself.
        device_mb: u32,
    },
}

/// One picture to draw. Every default is filled in, and every value is in the model's range.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct JobOrder {
    /// The job.
    pub job: JobId,
    /// The prompt.
    pub prompt: String,
    /// The negative prompt.
    pub negative: Option<String>,
    /// Width and height in pixels.
    pub size: PictureSize,
    /// Number of denoising steps.
    pub steps: u32,
    /// Guidance scale.
    pub guidance: f32,
    /// Seed of the noise.
    pub seed: u64,
    /// The step to resume from, 0 for none; its latents are in the resume slot.
    pub resume_step: u32,
    /// Number of bytes of those latents.
    pub resume_bytes: u64,
    /// True if the client wants previews.
    pub previews: bool,
}

/// The reason why a job did not end in a picture.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum JobFault {
    /// A value of the request is invalid in a way that only the worker can see.
    BadRequest {
        /// The field at fault.
        field: Field,
        /// The reason in one sentence.
        message: String,
    },
    /// Memory ran out during the job, and the worker recovered.
    OutOfMemory {
        /// The allocation that failed, in words.
        message: String,
    },
    /// The model computed values that are not finite.
    NotFinite {
        /// The stage in which they were found.
        stage: String,
    },
    /// Cancelled by `Cancel`.
    Cancelled,
    /// Another reason.
    Other {
        /// The reason in one sentence.
        message: String,
    },
}

/// The milliseconds of each phase of a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Timings {
    /// From the prompt to its embeddings.
    pub encode_ms: u32,
    /// All steps of this attempt.
    pub denoise_ms: u32,
    /// From latents to pixels.
    pub decode_ms: u32,
}
