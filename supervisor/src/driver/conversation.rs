//! One conversation with a door: what it asks for and what it is owed.

use ipc_protocol::failure::Failure;
use ipc_protocol::messages::client::Fetching;
use ipc_protocol::request::ImageRequest;
use pool::{AcceptedJobs, Ticket};
use tokio::sync::{mpsc, oneshot, watch};

use super::ask::JobUpdate;

/// One conversation with a door.
#[derive(Debug)]
pub(super) struct Conversation {
    /// On whose behalf it asks.
    pub user: String,
    /// Its request, while that may still have to wait for files.
    pub asked: Option<WaitingRequest>,
    pub accepted: Option<oneshot::Sender<Result<(Ticket, AcceptedJobs), Failure>>>,
    pub updates: mpsc::Sender<JobUpdate>,
    /// Jobs that still owe an answer.
    pub unanswered: usize,
}

/// A request that may have to wait for the files of its model.
#[derive(Debug)]
pub(super) struct WaitingRequest {
    pub request: ImageRequest,
    pub fetching: watch::Sender<Option<Fetching>>,
}

impl WaitingRequest {
    /// Tells how far the files are; the door hears the newest when it listens.
    pub fn tell(&self, far: &Fetching) {
        self.fetching.send_replace(Some(far.clone()));
    }
}

impl Conversation {
    /// Tells how a job goes, unless the room left is owed to answers. A door that left misses it.
    pub fn report(&self, update: JobUpdate) {
        if self.updates.capacity() > self.unanswered {
            let _ = self.updates.try_send(update);
        }
    }

    /// Tells a job's one answer; there is always room for it, and a door that left needs none.
    pub fn answer(&mut self, update: JobUpdate) {
        self.unanswered -= 1;
        let _ = self.updates.try_send(update);
    }
}
