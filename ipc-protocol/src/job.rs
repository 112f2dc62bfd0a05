//! One job as doors list it, from its request until it is forgotten.

use bincode::{Decode, Encode};
use serde::{Serialize, Serializer};

use crate::failure::Failure;
use crate::ids::{JobId, ModelKey};

/// The largest number of bytes of a listed prompt, and of the reason why a job waits; the rest is cut off.
pub const LISTED_BYTES_MAX: usize = 1024;

/// One job: what was asked for, how far it is, and how it ended.
#[derive(Debug, Clone, PartialEq, Encode, Decode, Serialize)]
pub struct JobStatus {
    /// The job.
    pub job: JobId,
    /// The user that it counts for.
    pub user: String,
    /// The model.
    pub model: ModelKey,
    /// The beginning of the prompt, at most [`LISTED_BYTES_MAX`].
    pub prompt: String,
    /// The picture's place in its request, from 0.
    pub index: u32,
    /// Pixels per row; unknown until the files of the model are here, as are the next three.
    pub width: Option<u32>,
    /// Number of rows.
    pub height: Option<u32>,
    /// Seed of this picture.
    pub seed: Option<u64>,
    /// Number of denoising steps.
    pub steps: Option<u32>,
    /// When the request arrived, in seconds since 1970 (UTC).
    pub created: u64,
    /// True if the job continues without its client, and its picture is kept.
    pub detached: bool,
    /// Its state.
    pub state: JobState,
    /// The last finished step; 0 before the first.
    pub step: u32,
    /// Position among the jobs that wait for the model, from 1; 0 if it does not wait or if that is unknown.
    pub position: u32,
    /// Seconds from the request until now or until the end of the job.
    pub waiting_s: f64,
    /// The reason why it waits, with numbers; empty if it does not wait.
    pub reason: String,
    /// Estimated seconds until its end, if there is anything to estimate from.
    pub eta_s: Option<f64>,
    /// The worker that runs it, or finished it.
    pub worker: Option<String>,
    /// Attempts so far.
    pub attempts: u32,
    /// Times of a finished job.
    pub times: Option<JobTimes>,
    /// The failure of a failed or cancelled job.
    #[serde(serialize_with = "failure_object")]
    pub failure: Option<Failure>,
    /// Whether its picture can be fetched.
    pub picture: PictureState,
    /// Seconds that the picture is still kept.
    pub kept_s: Option<f64>,
}

/// The state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// It waits: for a worker, for its model to load, or for the files of its model.
    Queued,
    /// A worker runs it.
    Running,
    /// Its picture is drawn.
    Finished,
    /// It ended without a picture.
    Failed,
    /// Its client, an operator or a shutdown cancelled it.
    Cancelled,
}

impl JobState {
    /// The name of the state, in lists and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the job has its final answer.
    pub fn is_end(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Finished | Self::Failed | Self::Cancelled => true,
        }
    }
}

impl JobStatus {
    /// Says that its picture is kept, and for how long; `None` if it is not.
    pub fn kept(&self) -> Option<String> {
        match (self.picture, self.kept_s) {
            (PictureState::Kept, Some(left)) => {
                Some(format!("its picture is kept for {left:.0} s"))
            }
            (PictureState::Kept, None) => Some("its picture is kept".into()),
            (PictureState::None | PictureState::Gone, _) => None,
        }
    }
}

/// Whether a job's picture can be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PictureState {
    /// The job is not finished, or its only picture went to the client that asked for it.
    None,
    /// The daemon keeps it.
    Kept,
    /// The daemon kept it and does not any longer.
    Gone,
}

/// Times of a finished job, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct JobTimes {
    /// From acceptance to placement.
    pub queue_ms: u64,
    /// The part of `queue_ms` spent waiting for a model to load.
    pub load_ms: u64,
    /// All steps.
    pub denoise_ms: u64,
    /// From latents to pixels.
    pub decode_ms: u64,
}

/// Cuts a text to at most [`LISTED_BYTES_MAX`] bytes, between characters.
pub fn listed(text: &str) -> &str {
    &text[..text.floor_char_boundary(LISTED_BYTES_MAX)]
}

/// Writes a failure as the object `{"kind","field","message"}`, or null.
fn failure_object<S: Serializer>(
    failure: &Option<Failure>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct FailureObject<'a> {
        kind: &'static str,
        field: Option<String>,
        message: &'a str,
    }
    let object = failure.as_ref().map(|failure| FailureObject {
        kind: failure.kind.word(),
        field: failure.field.map(|field| field.to_string()),
        message: &failure.message,
    });
    object.serialize(serializer)
}
