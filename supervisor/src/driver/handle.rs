//! How a door reaches the loop, and waits for what becomes of a request.

use std::sync::Arc;

use ipc_protocol::event::EventReport;
use ipc_protocol::failure::Failure;
use ipc_protocol::ids::{JobId, ModelKey, WorkerName};
use ipc_protocol::messages::client::{AvailableModel, Target, Told, Verb};
use ipc_protocol::obituary::Obituary;
use ipc_protocol::request::ImageRequest;
use pool::{AcceptedJobs, Moment, Registry, Ticket};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::ask::{Ask, gone};
use super::event_log::EventFeed;
use super::inbox::{LoopCommand, Outbox};
use super::report::StatusAnswer;
use crate::line_ring::LineRing;
use crate::process::reserve::DescriptorReserve;
use crate::telemetry::traces::context::TraceParent;

pub use super::ask::{AwaitedFiles, Caller, FinishedPicture, JobUpdate, ModelReceipt};

/// News that may wait for a slow door beside the answers it is owed; further progress is dropped.
pub(super) const PROGRESS_MAX: usize = 64;

/// The way to the loop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) outbox: Outbox,
    pub(super) events: broadcast::Sender<Arc<EventReport>>,
    pub(super) reserve: DescriptorReserve,
}

/// A request on its way to become jobs. Dropping it tells the loop that nobody waits any more.
#[derive(Debug)]
pub struct PendingRequest {
    answer: oneshot::Receiver<Result<(Ticket, AcceptedJobs), Failure>>,
    waiting: watch::Receiver<Option<AwaitedFiles>>,
    updates: mpsc::Receiver<JobUpdate>,
    leaving: Leaving,
}

/// An update about a request that has not become jobs yet.
#[derive(Debug)]
pub enum PendingUpdate {
    /// It waits for the files of its model.
    Waiting(AwaitedFiles),
    /// The request became jobs or was refused. No further update follows.
    Answer(Result<(Ticket, AcceptedJobs), Failure>),
}

impl PendingRequest {
    pub(super) fn new(
        answer: oneshot::Receiver<Result<(Ticket, AcceptedJobs), Failure>>,
        waiting: watch::Receiver<Option<AwaitedFiles>>,
        updates: mpsc::Receiver<JobUpdate>,
        outbox: Outbox,
    ) -> Self {
        Self {
            answer,
            waiting,
            updates,
            leaving: Leaving {
                ask: Some(Ask::GoneBefore),
                outbox,
            },
        }
    }

    /// Waits for the next update: the answer, or the newest state of the files.
    pub async fn word(&mut self) -> PendingUpdate {
        loop {
            tokio::select! {
                biased;
                answer = &mut self.answer => {
                    return PendingUpdate::Answer(answer.unwrap_or_else(|_| Err(gone())));
                }
                Ok(()) = self.waiting.changed() => {
                    if let Some(files) = self.waiting.borrow_and_update().clone() {
                        return PendingUpdate::Waiting(files);
                    }
                }
            }
        }
    }

    /// The jobs it became.
    pub fn ongoing(mut self, (ticket, accepted): (Ticket, AcceptedJobs)) -> AcceptedRequest {
        self.leaving.ask = Some(Ask::Gone(ticket));
        AcceptedRequest {
            accepted,
            updates: self.updates,
            leaving: self.leaving,
        }
    }
}

/// A request that became jobs. Dropping it tells the pool that nobody waits any more.
#[derive(Debug)]
pub struct AcceptedRequest {
    /// The jobs.
    pub accepted: AcceptedJobs,
    /// Their updates.
    pub updates: mpsc::Receiver<JobUpdate>,
    leaving: Leaving,
}

impl AcceptedRequest {
    /// Tells the pool that the client has left. The jobs still get their answers.
    pub fn leave(&mut self) {
        self.leaving.tell();
    }
}

/// Tells the loop on its drop that a door has left.
#[derive(Debug)]
struct Leaving {
    ask: Option<Ask>,
    outbox: Outbox,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.tell();
    }
}

impl Leaving {
    /// Tells the loop, once.
    fn tell(&mut self) {
        let (outbox, ask) = (self.outbox.clone(), self.ask.take());
        // Without a runtime the daemon is ending, and so are all jobs.
        if let (Some(ask), Ok(runtime)) = (ask, tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { outbox.ask(ask).await });
        }
    }
}

impl Handle {
    /// Asks for pictures on behalf of `user`, and waits until the request has become jobs.
    ///
    /// # Errors
    /// The pool's refusal.
    pub async fn generate(
        &self,
        request: ImageRequest,
        user: String,
    ) -> Result<AcceptedRequest, Failure> {
        let mut asked = self.ask(request, user).await?;
        loop {
            if let PendingUpdate::Answer(answer) = asked.word().await {
                return answer.map(|jobs| asked.ongoing(jobs));
            }
        }
    }

    /// Asks for pictures on behalf of `user`.
    ///
    /// # Errors
    /// The pool has shut down.
    pub async fn ask(
        &self,
        request: ImageRequest,
        user: String,
    ) -> Result<PendingRequest, Failure> {
        self.ask_traced(request, user, None).await
    }

    /// Asks for pictures on behalf of `user`, whose jobs are traced as parts of the caller's span.
    ///
    /// # Errors
    /// The pool has shut down.
    pub async fn ask_traced(
        &self,
        request: ImageRequest,
        user: String,
        trace: Option<TraceParent>,
    ) -> Result<PendingRequest, Failure> {
        let (sender, updates) = mpsc::channel(request.count as usize + PROGRESS_MAX);
        let (accepted, answer) = oneshot::channel();
        let (newest, waiting) = watch::channel(None);
        self.send(Ask::Generate {
            request,
            user,
            trace,
            accepted,
            waiting: newest,
            updates: sender,
        })
        .await?;
        let outbox = self.outbox.clone();
        Ok(PendingRequest::new(answer, waiting, updates, outbox))
    }

    /// Cancels a job of the caller's; its client gets the answer. A job of another user is not cancelled.
    pub async fn cancel(&self, job: JobId, by: Caller) -> Result<(), Failure> {
        let (done, ended) = oneshot::channel();
        self.send(Ask::Cancel { job, by, done }).await?;
        ended.await.map_err(|_| gone())
    }

    /// Everything at one moment.
    pub async fn status(&self) -> Result<Arc<StatusAnswer>, Failure> {
        let (sender, report) = oneshot::channel();
        self.send(Ask::Status(sender)).await?;
        report.await.map_err(|_| gone())
    }

    /// Carries out an operator's verb; returns what happened, line by line. Whether the caller may ask for
    /// it, its door has checked; whether a job is the caller's is checked here.
    pub async fn operate(&self, verb: Verb, by: Caller) -> Result<Told, Failure> {
        let (answer, told) = oneshot::channel();
        self.send(Ask::Operate { verb, by, answer }).await?;
        told.await.map_err(|_| gone())?
    }

    /// The obituaries of these workers, at most `most`, newest first.
    pub async fn obituaries(&self, of: Target, most: usize) -> Result<Vec<Arc<Obituary>>, Failure> {
        let (answer, obituaries) = oneshot::channel();
        self.send(Ask::Obituaries { of, most, answer }).await?;
        obituaries.await.map_err(|_| gone())
    }

    /// The models as the pool knows them.
    pub async fn models(&self) -> Result<Registry, Failure> {
        let (sender, models) = oneshot::channel();
        self.send(Ask::Models(sender)).await?;
        models.await.map_err(|_| gone())
    }

    /// The events from now on, at once. A receiver that is slow loses the oldest ones.
    pub fn events_from_now(&self) -> broadcast::Receiver<Arc<EventReport>> {
        self.events.subscribe()
    }

    /// The newest events, and those from now on.
    ///
    /// # Errors
    /// The pool has shut down.
    pub async fn events(&self) -> Result<EventFeed, Failure> {
        let (sender, feed) = oneshot::channel();
        self.send(Ask::Events(sender)).await?;
        feed.await.map_err(|_| gone())
    }

    /// The log of the workers that have had this name.
    ///
    /// # Errors
    /// No model of this name is offered, or the pool has shut down.
    pub async fn log(&self, of: WorkerName) -> Result<LineRing, Failure> {
        let (answer, log) = oneshot::channel();
        self.send(Ask::Log { of, answer }).await?;
        log.await.map_err(|_| gone())?
    }

    /// The loop's present moment: proof that it turns.
    ///
    /// # Errors
    /// The pool has shut down.
    pub async fn pulse(&self) -> Result<Moment, Failure> {
        let (sender, answer) = oneshot::channel();
        self.send(Ask::Pulse(sender)).await?;
        answer.await.map_err(|_| gone())
    }

    /// Returns the key of a model, or of the default model, if one picture at its defaults would be accepted now.
    ///
    /// # Errors
    /// The refusal that a client would get, or that the model's files are not here.
    pub async fn can_serve(&self, model: Option<String>) -> Result<ModelKey, Failure> {
        let (answer, said) = oneshot::channel();
        self.send(Ask::CanServe { model, answer }).await?;
        said.await.map_err(|_| gone())?
    }

    /// Whether a model has a live worker.
    pub async fn has_workers(&self, model: &str) -> Result<bool, Failure> {
        let (sender, answer) = oneshot::channel();
        self.send(Ask::HasWorkers {
            model: model.to_owned(),
            answer: sender,
        })
        .await?;
        answer.await.map_err(|_| gone())
    }

    /// Winds the pool down; `cancel` ends what is accepted instead of finishing it.
    pub async fn drain(&self, cancel: bool) -> Result<(), Failure> {
        self.outbox.command(LoopCommand::Drain { cancel }).await
    }

    /// The models of the settings file, and whether they are in use.
    ///
    /// # Errors
    /// The file is invalid, or the pool has shut down.
    pub async fn available(&self) -> Result<Vec<AvailableModel>, Failure> {
        let (sender, models) = oneshot::channel();
        self.send(Ask::Available(sender)).await?;
        models.await.map_err(|_| gone())?
    }

    /// Reads again what may have changed on the disk: the settings, and the files of every model. Returns what
    /// `imagepool reload` prints, once the new settings apply.
    ///
    /// # Errors
    /// The pool has shut down.
    pub async fn reload(&self) -> Result<Told, Failure> {
        let (answer, told) = oneshot::channel();
        self.outbox.command(LoopCommand::Reload(answer)).await?;
        told.await.map_err(|_| gone())?
    }

    /// Ends every worker at once, and the loop with the last of them.
    pub async fn abandon(&self) -> Result<(), Failure> {
        self.outbox.command(LoopCommand::Abandon).await
    }

    /// The descriptors that are kept for the start of workers.
    pub fn reserve(&self) -> &DescriptorReserve {
        &self.reserve
    }

    /// Waits until the loop has ended and all its answers are sent.
    pub async fn ended(&self) {
        self.outbox.closed().await;
    }

    async fn send(&self, ask: Ask) -> Result<(), Failure> {
        self.outbox.ask(ask).await
    }
}
