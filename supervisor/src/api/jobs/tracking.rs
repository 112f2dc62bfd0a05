//! Follows one request, from its start to the last answer of its jobs, and keeps their records.

use std::sync::{Arc, Mutex, MutexGuard};

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::JobId;
use ipc_protocol::messages::client::Fetching;
use pool::AcceptedJobs;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::journaling::Journaling;
use super::start::{AttachedRequest, ended};
use super::table::{JobTable, RequestFacts};
use crate::api::unsent::ClientBytes;
use crate::clock::Clock;
use crate::driver::handle::{
    AcceptedRequest, Caller, Handle, JobUpdate, PendingRequest, PendingUpdate,
};

/// The canceller of jobs that cannot be written down, for the log.
const WITHOUT_JOURNAL: &str = "the daemon, whose journal cannot be written";

/// Progress that may wait for a slow client beside the answers that it gets; further progress is dropped.
const PROGRESS_MAX: usize = 64;

/// The records, shared by the store and the tasks that follow requests.
#[derive(Debug)]
pub(super) struct SharedTable {
    table: Mutex<JobTable>,
    /// Something ended, so that the next expiry may be earlier.
    pub ended: Notify,
}

impl SharedTable {
    pub fn new(table: JobTable) -> Self {
        Self {
            table: Mutex::new(table),
            ended: Notify::new(),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, JobTable> {
        self.table.lock().expect("no holder of this lock can panic")
    }
}

/// The client's side of a request.
#[derive(Debug)]
pub(super) enum ClientSide {
    /// It may leave.
    Detached(oneshot::Sender<Result<AcceptedJobs, Failure>>),
    /// Its leaving cancels the request.
    Attached(oneshot::Sender<Result<AttachedRequest, Failure>>),
    /// It left under an earlier daemon.
    Restored,
}

impl ClientSide {
    /// Waits until the client of an attached request has left.
    async fn left(&mut self) {
        match self {
            Self::Detached(_) | Self::Restored => std::future::pending().await,
            Self::Attached(answer) => answer.closed().await,
        }
    }

    /// Refuses the request. A client that left needs no refusal.
    fn refuse(self, failure: Failure) {
        match self {
            Self::Detached(answer) => drop(answer.send(Err(failure))),
            Self::Attached(answer) => drop(answer.send(Err(failure))),
            Self::Restored => {}
        }
    }

    /// Tells the client its jobs; returns the way to send it their updates, if it stays for them.
    fn accept(self, accepted: &AcceptedJobs) -> Option<AttachedClient> {
        match self {
            Self::Detached(answer) => {
                drop(answer.send(Ok(accepted.clone())));
                None
            }
            Self::Restored => None,
            Self::Attached(answer) => {
                let (sender, updates) = mpsc::channel(accepted.jobs.len() + PROGRESS_MAX);
                // If the client has left, the receiver is dropped here, and `follow` notices that.
                let unsent = ClientBytes::default();
                drop(answer.send(Ok(AttachedRequest {
                    accepted: accepted.clone(),
                    updates,
                    unsent: unsent.clone(),
                })));
                Some(AttachedClient {
                    updates: sender,
                    unsent,
                })
            }
        }
    }
}

/// The way to the client of an attached request.
#[derive(Debug)]
struct AttachedClient {
    updates: mpsc::Sender<JobUpdate>,
    /// Bytes of pictures that it has not taken.
    unsent: ClientBytes,
}

impl AttachedClient {
    /// Passes an update on. There is always room for answers, which are `unanswered`. A client that left needs none.
    fn pass(&self, update: JobUpdate, is_answer: bool, unanswered: usize) {
        if is_answer || self.updates.capacity() > unanswered {
            self.unsent.add(update.picture_bytes());
            let _ = self.updates.try_send(update);
        }
    }
}

/// Follows one request.
#[derive(Debug)]
pub(super) struct RequestTracking {
    pub table: Arc<SharedTable>,
    pub clock: Clock,
    pub facts: RequestFacts,
    pub fetching: watch::Sender<Option<Fetching>>,
    /// Jobs that wait for files.
    pub awaiting: Vec<JobId>,
    /// Writes detached jobs down, if a journal is kept.
    pub journaling: Journaling,
    pub handle: Handle,
}

impl RequestTracking {
    /// Follows the request until the last answer.
    pub async fn run(mut self, mut pending: PendingRequest, mut client: ClientSide) {
        let answer = loop {
            tokio::select! {
                update = pending.word() => match update {
                    PendingUpdate::Waiting(files) => {
                        self.table.lock().await_files(&self.facts, &files);
                        self.fetching.send_replace(files.far);
                        self.awaiting = files.jobs;
                    }
                    PendingUpdate::Answer(answer) => break answer,
                },
                () = client.left() => return self.end_all(&self.awaiting, &left()).await,
            }
        };
        match answer {
            Ok(jobs) => {
                let ongoing = pending.ongoing(jobs);
                let accepted = Arc::new(ongoing.accepted.clone());
                match &client {
                    ClientSide::Detached(_) => {
                        let kept = self.journaling.keep_request(&self.facts, &accepted).await;
                        if let Err(failure) = kept {
                            return self.give_up(&accepted, client, failure).await;
                        }
                        self.table.lock().accept(&self.facts, &accepted);
                    }
                    ClientSide::Attached(_) => {
                        self.table.lock().accept(&self.facts, &accepted);
                    }
                    // Its record names all jobs of the request that it came from.
                    ClientSide::Restored => {}
                }
                let updates = client.accept(&accepted);
                self.follow(ongoing, updates).await;
            }
            Err(failure) => {
                self.end_all(&self.awaiting, &failure).await;
                client.refuse(failure);
            }
        }
    }

    /// Follows the jobs of the accepted request.
    async fn follow(&self, mut ongoing: AcceptedRequest, mut client: Option<AttachedClient>) {
        let mut unanswered = ongoing.accepted.jobs.len();
        while unanswered > 0 {
            tokio::select! {
                update = ongoing.updates.recv() => {
                    let Some(update) = update else { break };
                    self.journaling.keep_end(&self.facts, &update).await;
                    self.table.lock().publish(&update, self.clock.now());
                    let is_answer = match &update {
                        JobUpdate::Picture(_) | JobUpdate::Failed { .. } => true,
                        JobUpdate::Progress { .. } | JobUpdate::Preview { .. } => false,
                    };
                    if is_answer {
                        self.table.ended.notify_one();
                    }
                    if let Some(client) = &client {
                        client.pass(update, is_answer, unanswered);
                    }
                    unanswered -= usize::from(is_answer);
                }
                () = closed(client.as_ref()) => {
                    client = None;
                    ongoing.leave();
                }
            }
        }
        if unanswered > 0 {
            self.end_all(&ongoing.accepted.jobs, &ended()).await;
        }
    }

    /// Cancels the jobs of a request that cannot be written down, and refuses it.
    async fn give_up(&self, accepted: &AcceptedJobs, client: ClientSide, failure: Failure) {
        self.fail_all(&accepted.jobs, &failure);
        for job in &accepted.jobs {
            let by = Caller {
                user: WITHOUT_JOURNAL.to_owned(),
                operator: true,
            };
            // Fails only if the loop has ended, and the jobs with it.
            let _ = self.handle.cancel(*job, by).await;
        }
        client.refuse(failure);
    }

    /// Ends the jobs that have no end yet, also in the journal.
    async fn end_all(&self, jobs: &[JobId], failure: &Failure) {
        for job in jobs {
            let update = JobUpdate::Failed {
                job: *job,
                failure: failure.clone(),
            };
            self.journaling.keep_end(&self.facts, &update).await;
        }
        self.fail_all(jobs, failure);
    }

    /// Ends the jobs that have no end yet.
    fn fail_all(&self, jobs: &[JobId], failure: &Failure) {
        let now = self.clock.now();
        let mut table = self.table.lock();
        for job in jobs {
            table.fail(*job, failure.clone(), now);
        }
        self.table.ended.notify_one();
    }
}

/// Waits until the client of an attached request has left.
async fn closed(client: Option<&AttachedClient>) {
    match client {
        Some(client) => client.updates.closed().await,
        None => std::future::pending().await,
    }
}

/// The end of a request whose client left before it became jobs.
fn left() -> Failure {
    Failure::new(
        FailureKind::Cancelled,
        "cancelled by the client, which is gone",
    )
}
