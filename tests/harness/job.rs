//! Drawing through the client library, with a look at every step.

use ipc_protocol::client::{Client, ClientError, Drawing, Picture, Update};
use ipc_protocol::failure::Failure;
use ipc_protocol::ids::JobId;
use ipc_protocol::request::ImageRequest;
use ipc_protocol::status::WorkerStatus;

use crate::daemon::TestDaemon;

/// A request for one picture of `model`.
pub fn request(model: &str, steps: u32, seed: u64) -> ImageRequest {
    ImageRequest {
        model: Some(model.to_owned()),
        steps: Some(steps),
        seed: Some(seed),
        ..ImageRequest::new("a red circle left of a blue square")
    }
}

/// Asks for one picture and waits for its one answer; `at_step` is called after each step.
///
/// # Errors
/// The job's failure, or the request's refusal.
pub fn draw(
    client: &mut Client,
    request: &ImageRequest,
    at_step: impl FnMut(JobId, u32),
) -> Result<Picture, Failure> {
    match client.generate(request) {
        Ok(drawing) => answer(drawing, at_step),
        Err(ClientError::Refused(failure)) => Err(failure),
        Err(error) => panic!("the daemon broke off: {error}"),
    }
}

/// Waits for the one answer of a job of an earlier request.
///
/// # Errors
/// The job's failure.
pub fn wait_for(client: &mut Client, job: JobId) -> Result<Picture, Failure> {
    let (_, drawing) = client.wait(job, |_| {}).expect("it is known");
    answer(drawing, |_, _| {})
}

/// The one answer of a drawing.
fn answer(drawing: Drawing<'_>, mut at_step: impl FnMut(JobId, u32)) -> Result<Picture, Failure> {
    let mut answers = Vec::new();
    for update in drawing {
        match update.expect("the daemon stays") {
            Update::Step { job, step, .. } => at_step(job, step),
            Update::Picture(picture) => answers.push(Ok(*picture)),
            Update::Failed { failure, .. } => answers.push(Err(failure)),
            Update::Waiting { .. }
            | Update::Loading { .. }
            | Update::Preview { .. }
            | Update::DaemonLost
            | Update::AcceptedAgain(_) => {}
        }
    }
    assert_eq!(answers.len(), 1, "one job, one answer");
    answers.pop().expect("it was counted")
}

impl TestDaemon {
    /// Draws and waits; see [`draw`].
    pub fn draw(&self, request: &ImageRequest) -> Result<Picture, Failure> {
        draw(&mut self.client(), request, |_, _| {})
    }

    /// The worker that runs a job now.
    pub fn worker_of(&self, job: JobId) -> Option<WorkerStatus> {
        self.status()
            .workers
            .into_iter()
            .find(|worker| worker.job.as_ref().is_some_and(|running| running.id == job))
    }
}
