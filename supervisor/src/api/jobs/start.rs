//! A request at the store's door: on its way to become jobs, and as the jobs of a client that stays.

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::messages::client::Fetching;
use pool::AcceptedJobs;
use tokio::sync::{mpsc, oneshot, watch};

use crate::api::unsent::ClientBytes;
use crate::driver::handle::JobUpdate;

/// A request on its way to become jobs; `T` is what its client gets then. Dropping it cancels an attached request.
/// A detached one continues.
#[derive(Debug)]
pub struct PendingStart<T> {
    pub(super) answer: oneshot::Receiver<Result<T, Failure>>,
    pub(super) fetching: watch::Receiver<Option<Fetching>>,
}

/// An update about a request that has not become jobs yet.
#[derive(Debug)]
pub enum StartUpdate<T> {
    /// The files of its model are being fetched.
    Fetching(Fetching),
    /// The request became jobs or was refused. No further update follows.
    Answer(Result<T, Failure>),
}

/// The jobs of a request whose client stays. Dropping it cancels those that are not finished.
#[derive(Debug)]
pub struct AttachedRequest {
    /// The jobs.
    pub accepted: AcceptedJobs,
    /// Their updates; each job's last one is its answer. A slow client misses progress and previews.
    pub updates: mpsc::Receiver<JobUpdate>,
    /// Bytes of the pictures in `updates`, and of those that its reader has not subtracted.
    pub unsent: ClientBytes,
}

impl<T> PendingStart<T> {
    /// Waits for the next update: the answer, or the newest progress of a fetch.
    pub async fn next(&mut self) -> StartUpdate<T> {
        loop {
            tokio::select! {
                biased;
                answer = &mut self.answer => {
                    return StartUpdate::Answer(answer.unwrap_or_else(|_| Err(ended())));
                }
                Ok(()) = self.fetching.changed() => {
                    if let Some(far) = self.fetching.borrow_and_update().clone() {
                        return StartUpdate::Fetching(far);
                    }
                }
            }
        }
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// The pool's refusal.
    pub async fn answer(mut self) -> Result<T, Failure> {
        loop {
            if let StartUpdate::Answer(answer) = self.next().await {
                return answer;
            }
        }
    }
}

/// The failure after the loop has ended.
pub(super) fn ended() -> Failure {
    Failure::new(FailureKind::Draining, "the pool has shut down")
}
