//! The request of a client that its questions are about: these clients name none.

use std::collections::BTreeMap;

use ipc_protocol::ids::JobId;
use ipc_protocol::job::{JobState, JobStatus};

use super::context::SdapiContext;
use super::ongoing::OngoingDrawing;
use crate::api::http::caller::HttpCaller;
use crate::api::http::error::ApiError;

/// The oldest request of a client that has a running job, else its oldest one.
#[derive(Debug)]
pub(super) struct CurrentDrawing {
    pub drawing: OngoingDrawing,
    /// Its jobs without an end, in the order of the pictures.
    pub unfinished: Vec<JobStatus>,
}

impl CurrentDrawing {
    /// Looks for it; `None` if nothing is being drawn for the client.
    pub async fn of(context: &SdapiContext, caller: &HttpCaller) -> Result<Option<Self>, ApiError> {
        let drawings = context.ongoing.of(&caller.user(None)?);
        if drawings.is_empty() {
            return Ok(None);
        }
        let listed = context.http.jobs.list(&caller.caller()).await;
        let mut listed: BTreeMap<JobId, JobStatus> =
            listed.into_iter().map(|job| (job.job, job)).collect();
        let mut oldest = None;
        for drawing in drawings {
            let jobs = drawing.jobs.iter().flat_map(|jobs| &jobs.jobs);
            let jobs = jobs.filter_map(|job| listed.remove(job));
            let unfinished = jobs.filter(|job| !job.state.is_end()).collect();
            let current = Self {
                drawing,
                unfinished,
            };
            if current.running().is_some() {
                return Ok(Some(current));
            }
            oldest = oldest.or(Some(current));
        }
        Ok(oldest)
    }

    /// Its first running job.
    pub fn running(&self) -> Option<&JobStatus> {
        let mut jobs = self.unfinished.iter();
        jobs.find(|job| job.state == JobState::Running)
    }
}
