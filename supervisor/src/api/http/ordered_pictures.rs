//! The pictures of a request as they are finished, in the order of their seeds.

use std::sync::Arc;

use ipc_protocol::ids::JobId;

use crate::driver::handle::FinishedPicture;

/// The pictures of a request: one for each job.
#[derive(Debug)]
pub(super) struct OrderedPictures(Vec<OrderedPicture>);

#[derive(Debug)]
struct OrderedPicture {
    job: JobId,
    picture: Option<Arc<FinishedPicture>>,
    /// Whether it is still waited for.
    awaited: bool,
}

impl OrderedPictures {
    /// Waits for a picture of each job.
    pub fn of(jobs: &[JobId]) -> Self {
        let awaited = |job: &JobId| OrderedPicture {
            job: *job,
            picture: None,
            awaited: true,
        };
        Self(jobs.iter().map(awaited).collect())
    }

    /// Whether no further picture is waited for.
    pub fn are_complete(&self) -> bool {
        !self.0.iter().any(|one| one.awaited)
    }

    /// Takes a finished picture.
    pub fn insert(&mut self, picture: Arc<FinishedPicture>) {
        let mut of_job = self.0.iter_mut();
        if let Some(one) = of_job.find(|one| one.job == picture.job) {
            one.awaited = false;
            one.picture = Some(picture);
        }
    }

    /// Waits no longer for the picture of a job.
    pub fn leave_out(&mut self, job: JobId) {
        let mut of_job = self.0.iter_mut();
        if let Some(one) = of_job.find(|one| one.job == job) {
            one.awaited = false;
        }
    }

    /// The finished pictures.
    pub fn finished(self) -> Vec<Arc<FinishedPicture>> {
        self.0.into_iter().filter_map(|one| one.picture).collect()
    }
}
