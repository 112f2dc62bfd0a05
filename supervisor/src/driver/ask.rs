//! Questions of the doors to the loop, and the updates that answer them.

use std::sync::Arc;

use ipc_protocol::arithmetic::Dtype;
use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::{JobId, ModelKey, WorkerName};
use ipc_protocol::messages::client::{AvailableModel, Fetching, Target, Told, Verb};
use ipc_protocol::obituary::Obituary;
use ipc_protocol::reading::Reading;
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::PictureSize;
use pool::{AcceptedJobs, Moment, PictureFacts, Progress, Registry, Ticket};
use tokio::sync::{mpsc, oneshot, watch};

use super::event_log::EventFeed;
use super::report::StatusAnswer;
use crate::line_ring::LineRing;
use crate::telemetry::traces::context::TraceParent;

/// The user who asks for something that concerns jobs of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// As jobs name users.
    pub user: String,
    /// It has the same rights over all jobs as over its own.
    pub operator: bool,
}

impl Caller {
    /// Whether the caller may see and end a job of `user`.
    pub fn owns(&self, user: &str) -> bool {
        self.operator || self.asked_for(user)
    }

    /// Whether a job of `user` is the caller's own, or one of a user that it named in a request.
    pub fn asked_for(&self, user: &str) -> bool {
        pool::is_job_of(user, &self.user)
    }
}

/// A question of a door.
#[derive(Debug)]
pub(super) enum Ask {
    Generate {
        request: ImageRequest,
        user: String,
        trace: Option<TraceParent>,
        accepted: oneshot::Sender<Result<(Ticket, AcceptedJobs), Failure>>,
        waiting: watch::Sender<Option<AwaitedFiles>>,
        updates: mpsc::Sender<JobUpdate>,
    },
    Cancel {
        job: JobId,
        by: Caller,
        done: oneshot::Sender<()>,
    },
    /// A door left whose request had not become jobs.
    GoneBefore,
    Gone(Ticket),
    Status(oneshot::Sender<Arc<StatusAnswer>>),
    Operate {
        verb: Verb,
        by: Caller,
        answer: oneshot::Sender<Result<Told, Failure>>,
    },
    /// The newest obituaries.
    Obituaries {
        of: Target,
        most: usize,
        answer: oneshot::Sender<Vec<Arc<Obituary>>>,
    },
    /// The models as the pool knows them.
    Models(oneshot::Sender<Registry>),
    Pulse(oneshot::Sender<Moment>),
    CanServe {
        /// The default model if there is none.
        model: Option<String>,
        answer: oneshot::Sender<Result<ModelKey, Failure>>,
    },
    /// The log of a worker's name.
    Log {
        of: WorkerName,
        answer: oneshot::Sender<Result<LineRing, Failure>>,
    },
    Events(oneshot::Sender<EventFeed>),
    /// The models of the settings file.
    Available(oneshot::Sender<Result<Vec<AvailableModel>, Failure>>),
    HasWorkers {
        model: String,
        answer: oneshot::Sender<bool>,
    },
}

/// The files of a model, for which a request waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwaitedFiles {
    /// The model's own key.
    pub model: ModelKey,
    /// The ids that the request's jobs will have.
    pub jobs: Vec<JobId>,
    /// Progress of the fetch; `None` before it has begun.
    pub far: Option<Fetching>,
}

/// An update of a job. Every job's last update is `Picture` or `Failed`.
#[derive(Debug, Clone)]
pub enum JobUpdate {
    /// Its progress; a slow door misses some.
    Progress {
        /// The job.
        job: JobId,
        /// The progress.
        progress: Progress,
    },
    /// A preview of its picture; a slow door misses some.
    Preview {
        /// The job.
        job: JobId,
        /// The step after which it was made.
        step: u32,
        /// A pixel for each latent of the picture.
        size: PictureSize,
        /// Rows from the top, three bytes a pixel.
        rgb8: Arc<[u8]>,
    },
    /// Its one answer: the picture.
    Picture(Arc<FinishedPicture>),
    /// Its one answer: the failure.
    Failed {
        /// The job.
        job: JobId,
        /// The failure.
        failure: Failure,
    },
}

impl JobUpdate {
    /// Bytes of the picture, if it is one.
    pub fn picture_bytes(&self) -> u64 {
        match self {
            Self::Picture(picture) => picture.rgb8.len() as u64,
            Self::Progress { .. } | Self::Preview { .. } | Self::Failed { .. } => 0,
        }
    }

    /// The failure, if the job has ended with one.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed { failure, .. } => Some(failure),
            Self::Progress { .. } | Self::Preview { .. } | Self::Picture(_) => None,
        }
    }
}

/// A finished picture in the supervisor's own memory.
#[derive(Debug)]
pub struct FinishedPicture {
    /// The job that made it.
    pub job: JobId,
    /// Rows from the top, three bytes a pixel.
    pub rgb8: Vec<u8>,
    /// The attempts and times behind it.
    pub facts: PictureFacts,
    /// The model's reading of the prompt.
    pub reading: Reading,
    /// The facts of a receipt about the model.
    pub model: ModelReceipt,
    /// Whether its file has a receipt and the mark: the setting `pictures.metadata`.
    pub metadata: bool,
}

/// The facts of a receipt about the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelReceipt {
    /// Digest of the weights.
    pub digest: String,
    /// How its sigmas are chosen.
    pub sampler: String,
    /// The dtype of the worker that drew it.
    pub dtype: Dtype,
}

/// The failure after the loop has ended.
pub(super) fn gone() -> Failure {
    Failure::new(FailureKind::Draining, "the pool has shut down")
}
