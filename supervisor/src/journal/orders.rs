//! The records of the journal, and the orders that change them.

use std::sync::Arc;

use ipc_protocol::arithmetic::Dtype;
use ipc_protocol::failure::Failure;
use ipc_protocol::ids::JobId;
use ipc_protocol::reading::Reading;
use ipc_protocol::request::ImageRequest;
use pool::{AcceptedJobs, LastingFact, PictureFacts};

use crate::telemetry::traces::context::TraceParent;

/// A detached request that became jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct JournaledRequest {
    /// The user that its jobs count for.
    pub user: String,
    pub request: Arc<ImageRequest>,
    /// When it arrived, in seconds since 1970.
    pub created: u64,
    /// The caller's span, if it sent one.
    pub trace: Option<TraceParent>,
    /// The values chosen for it.
    pub accepted: Arc<AcceptedJobs>,
}

/// The end of a job.
#[derive(Debug, Clone, PartialEq)]
pub enum JournaledEnd {
    /// With a picture, whose pixels are in a file of their own.
    Finished(Box<JournaledPicture>),
    /// Without a picture.
    Failed(Failure),
}

/// A finished picture, without its pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct JournaledPicture {
    pub facts: PictureFacts,
    pub reading: Reading,
    /// Digest of the weights.
    pub digest: String,
    pub sampler: String,
    pub dtype: Dtype,
    /// Whether its file has a receipt and the mark.
    pub metadata: bool,
}

/// Whether the pixels of a finished picture are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PixelsKept {
    Yes,
    /// Its time is over.
    Expired,
    /// Later pictures needed its memory.
    Displaced,
}

/// A change of the journal.
#[derive(Debug, Clone, PartialEq)]
pub enum JournalOrder {
    /// A detached request became jobs.
    Accept(JournaledRequest),
    /// A job of such a request has ended.
    End { job: JobId, end: JournaledEnd },
    /// The pixels of a picture are not kept any longer.
    DropPixels { job: JobId, why: PixelsKept },
    /// Nothing of these jobs is needed any longer.
    Forget { jobs: Vec<JobId> },
    /// A fact that the pool wants to be remembered.
    Remember(LastingFact),
    /// Ids of jobs up to this one may be in use.
    LeaseIds { last: JobId },
    /// Ids of jobs up to this one were used; the last order of a daemon.
    SettleIds { last: JobId },
}
