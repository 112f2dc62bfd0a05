//! A loop played by a test, for tests of the doors' side.

use ipc_protocol::failure::Failure;
use ipc_protocol::request::ImageRequest;
use ipc_protocol::status::StatusReport;
use pool::{AcceptedJobs, Moment, Ticket};
use tokio::sync::{mpsc, oneshot, watch};

use super::ask::{Ask, AwaitedFiles, JobUpdate};
use super::handle::Handle;
use super::inbox::{self, Inbox};
use super::report::StatusAnswer;
use crate::process::reserve::DescriptorReserve;

/// The loop's side of a handle.
#[derive(Debug)]
pub struct PlayedLoop {
    inbox: Inbox,
}

/// A request that reached the loop.
#[derive(Debug)]
pub struct PlayedRequest {
    pub request: ImageRequest,
    pub user: String,
    answer: oneshot::Sender<Result<(Ticket, AcceptedJobs), Failure>>,
    waiting: watch::Sender<Option<AwaitedFiles>>,
    updates: mpsc::Sender<JobUpdate>,
}

/// A handle, and the loop behind it.
pub fn open() -> (Handle, PlayedLoop) {
    let (outbox, inbox) = inbox::open();
    let events = tokio::sync::broadcast::channel(1).0;
    let reserve = DescriptorReserve::default();
    let handle = Handle {
        outbox,
        events,
        reserve,
    };
    (handle, PlayedLoop { inbox })
}

impl PlayedLoop {
    /// Waits for the next request.
    pub async fn request(&mut self) -> PlayedRequest {
        match self.inbox.asks.recv().await.expect("there is a handle") {
            Ask::Generate {
                request,
                user,
                trace: _,
                accepted,
                waiting,
                updates,
            } => PlayedRequest {
                request,
                user,
                answer: accepted,
                waiting,
                updates,
            },
            other => panic!("{other:?} instead of a request"),
        }
    }

    /// Answers one question about the loop itself, as a loop that turns does.
    pub async fn turn(&mut self, report: &StatusReport) {
        // Who does not wait any more needs no answer.
        match self.inbox.asks.recv().await.expect("there is a handle") {
            Ask::Pulse(answer) => drop(answer.send(Moment::START)),
            Ask::Status(answer) => drop(answer.send(StatusAnswer::new(report.clone()).into())),
            other => panic!("{other:?} instead of a question about the loop"),
        }
    }

    /// Waits until a client leaves; its ticket, if its request had become jobs.
    pub async fn gone(&mut self) -> Option<Ticket> {
        match self.inbox.asks.recv().await.expect("there is a handle") {
            Ask::Gone(ticket) => Some(ticket),
            Ask::GoneBefore => None,
            other => panic!("{other:?} instead of a client that leaves"),
        }
    }
}

impl PlayedRequest {
    /// Tells that it waits for files.
    pub fn wait_for(&self, files: AwaitedFiles) {
        self.waiting.send_replace(Some(files));
    }

    /// Accepts it; its updates go through the result.
    pub fn accept(self, jobs: AcceptedJobs) -> mpsc::Sender<JobUpdate> {
        // A door that left misses it.
        let _ = self.answer.send(Ok((jobs.ticket, jobs)));
        self.updates
    }

    /// Refuses it.
    pub fn refuse(self, failure: Failure) {
        let _ = self.answer.send(Err(failure));
    }
}
