//! The lasting facts of a job: enough to list it and to make its file again.

use std::sync::Arc;

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::{JobId, ModelKey};
use ipc_protocol::job::{JobState, listed};
use ipc_protocol::request::ImageRequest;
use pool::{AcceptedJobs, PictureFacts};

/// The lasting facts of one job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobFacts {
    pub job: JobId,
    /// The user that it counts for; only that user and operators may see it.
    pub user: String,
    /// The model's own key.
    pub model: ModelKey,
    /// The request, shared by its jobs. Its texts are cut once no file can be made from them.
    pub request: Arc<ImageRequest>,
    /// The picture's place in the request, from 0.
    pub index: u32,
    /// When the request arrived, in seconds since 1970.
    pub created: u64,
    /// The values chosen for the request; `None` while it waits for the files of its model.
    pub accepted: Option<Arc<AcceptedJobs>>,
    /// Its end, once it has one.
    pub end: Option<JobEnd>,
}

/// The end of a job.
#[derive(Debug, Clone, PartialEq)]
pub enum JobEnd {
    /// With a picture.
    Finished(PictureFacts),
    /// Without a picture.
    Failed(Failure),
}

impl JobEnd {
    pub fn state(&self) -> JobState {
        match self {
            Self::Finished(_) => JobState::Finished,
            Self::Failed(failure) => state_of(failure),
        }
    }
}

/// The state of a job that ended with a failure.
pub fn state_of(failure: &Failure) -> JobState {
    match failure.kind == FailureKind::Cancelled {
        true => JobState::Cancelled,
        false => JobState::Failed,
    }
}

impl JobFacts {
    /// Seed of this picture, once it is chosen.
    pub fn seed(&self) -> Option<u64> {
        let first = self.accepted.as_ref()?.seed;
        Some(first.wrapping_add(u64::from(self.index)))
    }

    /// Bytes of its texts.
    pub(super) fn text_bytes(&self) -> u64 {
        let negative = self.request.negative.as_ref().map_or(0, String::len);
        (self.request.prompt.len() + negative) as u64
    }

    /// Cuts the texts to the listed length.
    pub(super) fn shorten(&mut self) {
        let request = &self.request;
        let negative = request.negative.as_deref();
        let is_short = |text: &str| listed(text).len() == text.len();
        if is_short(&request.prompt) && negative.is_none_or(is_short) {
            return;
        }
        self.request = Arc::new(ImageRequest {
            negative: negative.map(|text| listed(text).to_owned()),
            ..ImageRequest {
                prompt: listed(&request.prompt).to_owned(),
                ..(**request).clone()
            }
        });
    }
}
