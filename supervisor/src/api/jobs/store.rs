//! The store of jobs: starts requests, and answers every question about their jobs.

use std::sync::Arc;

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::JobId;
use ipc_protocol::job::JobStatus;
use ipc_protocol::messages::client::Verb;
use ipc_protocol::request::ImageRequest;
use ipc_protocol::status::QueuedStatus;
use pool::{AcceptedJobs, RestoredJob};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

pub use super::kept::ResultLimits;

use super::facts::JobFacts;
use super::journaling::Journaling;
use super::reader::JobReader;
use super::ring::JobPreview;
use super::start::{AttachedRequest, PendingStart};
use super::table::{JobTable, RequestFacts, unknown};
use super::tracking::{ClientSide, RequestTracking, SharedTable};
use crate::clock::Clock;
use crate::driver::handle::{Caller, FinishedPicture, Handle, PendingRequest};
use crate::driver::report::StatusAnswer;
use crate::journal::contents::RememberedRequest;
use crate::journal::handle::Journal;
use crate::telemetry;
use crate::telemetry::traces::context::TraceParent;

/// The store of jobs. Cheap to clone; all clones are the same store.
///
/// Every job that a door starts is in it until its end: its progress, previews and place in the queue. The pictures
/// of detached jobs are kept within [`ResultLimits`]. Of other ended jobs a short record without pixels stays for
/// an hour, at most 1000 of them. A caller sees its own jobs, an operator those of all users; another user's job is
/// as unknown as one that never was.
#[derive(Debug, Clone)]
pub struct JobStore {
    inner: Arc<StoreParts>,
    /// The span of the caller whose requests start here, if it sent one.
    trace: Option<TraceParent>,
}

#[derive(Debug)]
struct StoreParts {
    handle: Handle,
    clock: Clock,
    table: Arc<SharedTable>,
    journaling: Journaling,
    expiry: JoinHandle<()>,
}

impl Drop for StoreParts {
    fn drop(&mut self) {
        self.expiry.abort();
    }
}

/// A kept picture with the facts for its file.
#[derive(Debug, Clone)]
pub struct StoredPicture {
    /// The picture.
    pub picture: Arc<FinishedPicture>,
    /// The request and the place in it.
    pub facts: JobFacts,
    /// The values chosen for the request.
    pub accepted: Arc<AcceptedJobs>,
}

impl JobStore {
    /// Opens an empty store in the current runtime. A task drops what is too old.
    pub fn open(
        handle: Handle,
        clock: Clock,
        limits: ResultLimits,
        journal: Option<Journal>,
    ) -> Self {
        let table = JobTable::new(limits, journal.clone());
        let table = Arc::new(SharedTable::new(table));
        let expiry = tokio::spawn(expire(Arc::clone(&table), clock));
        Self {
            inner: Arc::new(StoreParts {
                handle,
                clock,
                table,
                journaling: Journaling::new(journal),
                expiry,
            }),
            trace: None,
        }
    }

    /// Changes the bounds of pictures that are kept from now on.
    pub fn set_limits(&self, limits: ResultLimits) {
        self.inner.table.lock().set_limits(limits);
    }

    /// The same store, whose requests are traced as parts of a caller's span.
    pub fn within(&self, trace: Option<TraceParent>) -> Self {
        Self {
            trace,
            ..self.clone()
        }
    }

    /// Starts a request that continues without its client, and waits until it has become jobs. If that waits for
    /// the files of a model, the request continues even if this call is cancelled. For the progress of the files use
    /// [`JobStore::ask_detached`].
    ///
    /// # Errors
    /// The pool's refusal.
    pub async fn start_detached(
        &self,
        request: ImageRequest,
        user: String,
    ) -> Result<AcceptedJobs, Failure> {
        self.ask_detached(request, user).await?.answer().await
    }

    /// Starts a request that ends with its client, and waits until it has become jobs. For the progress of the files
    /// use [`JobStore::ask_attached`].
    ///
    /// # Errors
    /// The pool's refusal.
    pub async fn start_attached(
        &self,
        request: ImageRequest,
        user: String,
    ) -> Result<AttachedRequest, Failure> {
        self.ask_attached(request, user).await?.answer().await
    }

    /// Starts a request that continues without its client.
    ///
    /// # Errors
    /// The pool has shut down.
    pub async fn ask_detached(
        &self,
        request: ImageRequest,
        user: String,
    ) -> Result<PendingStart<AcceptedJobs>, Failure> {
        let request = ImageRequest {
            detached: true,
            ..request
        };
        self.ask(request, user, ClientSide::Detached).await
    }

    /// Starts a request that ends with its client: when the result of this call or the [`AttachedRequest`] from it is
    /// dropped.
    ///
    /// # Errors
    /// The pool has shut down.
    pub async fn ask_attached(
        &self,
        request: ImageRequest,
        user: String,
    ) -> Result<PendingStart<AttachedRequest>, Failure> {
        let request = ImageRequest {
            detached: false,
            ..request
        };
        self.ask(request, user, ClientSide::Attached).await
    }

    async fn ask<T>(
        &self,
        request: ImageRequest,
        user: String,
        client: impl FnOnce(oneshot::Sender<Result<T, Failure>>) -> ClientSide,
    ) -> Result<PendingStart<T>, Failure> {
        let parts = &self.inner;
        let asked = parts
            .handle
            .ask_traced(request.clone(), user.clone(), self.trace);
        let pending = asked.await?;
        let (answered, answer) = oneshot::channel();
        let (far, fetching) = watch::channel(None);
        let tracking = RequestTracking {
            table: Arc::clone(&parts.table),
            clock: parts.clock,
            facts: RequestFacts {
                user,
                request: Arc::new(request),
                created: parts.clock.unix_seconds(),
                since: parts.clock.now(),
                trace: self.trace,
            },
            fetching: far,
            awaiting: Vec::new(),
            journaling: parts.journaling.clone(),
            handle: parts.handle.clone(),
        };
        tokio::spawn(tracking.run(pending, client(answered)));
        Ok(PendingStart { answer, fetching })
    }

    /// Takes over the jobs of an earlier daemon, the oldest first. `resume` gives those without an answer to the pool.
    pub(crate) fn restore(
        &self,
        requests: Vec<RememberedRequest>,
        mut resume: impl FnMut(RestoredJob, Option<TraceParent>) -> PendingRequest,
    ) {
        let parts = &self.inner;
        let (clock, now) = (parts.clock, parts.clock.now());
        let unix = clock.unix_seconds();
        let mut table = parts.table.lock();
        let limits = table.limits();
        let left = parts.journaling.sort(requests, limits, unix);
        let counts = (left.unanswered.len(), left.pictures());
        for ended in left.ended {
            table.restore_ended(ended, now);
        }
        for unanswered in left.unanswered {
            let job = unanswered.facts.job;
            let request = RequestFacts {
                user: unanswered.facts.user.clone(),
                request: Arc::clone(&unanswered.facts.request),
                created: unanswered.facts.created,
                since: now,
                trace: unanswered.trace,
            };
            table.restore_unanswered(unanswered.facts, unanswered.waited, now);
            let pending = resume(unanswered.restored, unanswered.trace);
            let tracking = RequestTracking {
                table: Arc::clone(&parts.table),
                clock,
                facts: request,
                fetching: watch::channel(None).0,
                awaiting: vec![job],
                journaling: parts.journaling.clone(),
                handle: parts.handle.clone(),
            };
            tokio::spawn(tracking.run(pending, ClientSide::Restored));
        }
        parts.table.ended.notify_one();
        if counts != (0, 0) {
            telemetry::job_journal::restored(counts.0, counts.1, clock.now().since(now));
        }
    }

    /// Lists the caller's jobs that have no answer yet, and its detached ones that ended; the oldest first. Positions
    /// and reasons are the pool's at this moment.
    pub async fn list(&self, caller: &Caller) -> Vec<JobStatus> {
        let report = self.report().await;
        let (table, now) = (self.inner.table.lock(), self.inner.clock.now());
        table.list(caller, queue(report.as_deref()), now)
    }

    /// Returns one job, attached ones included. The end of an attached job is known for an hour.
    ///
    /// # Errors
    /// `NoSuchName`.
    pub async fn find(&self, job: JobId, caller: &Caller) -> Result<JobStatus, Failure> {
        let is_queued = self
            .inner
            .table
            .lock()
            .find(job, caller)
            .map(|record| record.is_queued())?;
        // Only the pool knows the present position of a waiting job.
        let report = match is_queued {
            true => self.report().await,
            false => None,
        };
        self.known(job, caller, queue(report.as_deref()))
    }

    /// A job as the store knows it, with the pool's queue if it is needed.
    fn known(
        &self,
        job: JobId,
        caller: &Caller,
        queue: &[QueuedStatus],
    ) -> Result<JobStatus, Failure> {
        let (table, now) = (self.inner.table.lock(), self.inner.clock.now());
        let record = table.find(job, caller)?;
        Ok(table.status(record, queue, now))
    }

    /// Returns the newest of a user's own jobs, attached and ended ones included.
    pub async fn newest(&self, caller: &Caller) -> Option<JobStatus> {
        let job = {
            let table = self.inner.table.lock();
            let own = |job: &&super::record::TrackedJob| caller.asked_for(&job.facts.user);
            table.of(caller).rev().find(own)?.facts.job
        };
        self.find(job, caller).await.ok()
    }

    /// Returns the newest preview of a running job, if it was asked for with previews.
    ///
    /// # Errors
    /// `NoSuchName`.
    pub fn preview(&self, job: JobId, caller: &Caller) -> Result<Option<JobPreview>, Failure> {
        let table = self.inner.table.lock();
        Ok(table.find(job, caller)?.log.preview())
    }

    /// Returns the picture of a finished detached job.
    ///
    /// # Errors
    /// `NoSuchName` for an unknown job and one that has not ended; the failure of a job without a picture;
    /// `PictureGone` if it is not kept, with the reason.
    pub fn picture(&self, job: JobId, caller: &Caller) -> Result<StoredPicture, Failure> {
        let table = self.inner.table.lock();
        let record = table.find(job, caller)?;
        let picture = table.picture(record)?;
        let accepted = record.facts.accepted.clone();
        Ok(StoredPicture {
            picture,
            facts: record.facts.clone(),
            accepted: accepted.ok_or_else(|| unknown(job))?,
        })
    }

    /// Returns the lasting facts of a job, its whole request among them while a picture can come of it.
    ///
    /// # Errors
    /// `NoSuchName`.
    pub fn facts(&self, job: JobId, caller: &Caller) -> Result<JobFacts, Failure> {
        let table = self.inner.table.lock();
        Ok(table.find(job, caller)?.facts.clone())
    }

    /// Follows a job from its oldest kept update to its end.
    ///
    /// # Errors
    /// `NoSuchName`.
    pub fn follow(&self, job: JobId, caller: &Caller) -> Result<JobReader, Failure> {
        let table = self.inner.table.lock();
        Ok(JobReader::new(Arc::clone(&table.find(job, caller)?.log)))
    }

    /// Cancels a job; its readers and its client get the end.
    ///
    /// # Errors
    /// `NoSuchName` for an unknown job and one that has ended.
    pub async fn cancel(&self, job: JobId, caller: &Caller) -> Result<(), Failure> {
        let state = self.inner.table.lock().find(job, caller)?.state();
        if state.is_end() {
            let message = format!("job {job} cannot be cancelled: it is {}", state.word());
            return Err(Failure::new(FailureKind::NoSuchName, message));
        }
        let verb = Verb::CancelJob { job };
        let told = self.inner.handle.operate(verb, caller.clone()).await;
        told.map(drop)
    }

    /// The pool's report; `None` after the loop has ended.
    async fn report(&self) -> Option<Arc<StatusAnswer>> {
        self.inner.handle.status().await.ok()
    }
}

fn queue(report: Option<&StatusAnswer>) -> &[QueuedStatus] {
    report.map_or(&[], |report| &report.status.queue)
}

/// Drops pictures and records when their time is over.
async fn expire(table: Arc<SharedTable>, clock: Clock) {
    loop {
        let due = table.lock().expire(clock.now());
        tokio::select! {
            () = clock.wait_until(due) => {}
            () = table.ended.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ipc_protocol::ids::ModelKey;
    use ipc_protocol::job::JobState;
    use ipc_protocol::messages::client::Fetching;
    use pool::Ticket;

    use super::super::ring::{TrackedEnd, TrackedUpdate};
    use super::super::samples::{accepted, caller, picture, step};
    use super::super::start::StartUpdate;
    use super::*;
    use crate::driver::handle::{AwaitedFiles, JobUpdate};
    use crate::driver::stand_in::{self, PlayedLoop};

    fn open() -> (JobStore, PlayedLoop) {
        let (handle, played) = stand_in::open();
        let limits = ResultLimits {
            keep: Duration::from_secs(600),
            memory_mb: 1,
        };
        (JobStore::open(handle, Clock::start(), limits, None), played)
    }

    fn prompt() -> ImageRequest {
        ImageRequest::new("a star")
    }

    /// The updates up to the end: steps as numbers, then whether there is a picture.
    async fn read(mut reader: JobReader) -> (Vec<u32>, Option<bool>) {
        let (mut steps, mut end) = (Vec::new(), None);
        while let Some(update) = reader.next().await {
            match update {
                TrackedUpdate::Progress(pool::Progress::Step { index, .. }) => steps.push(index),
                TrackedUpdate::End(TrackedEnd::Finished(picture)) => end = Some(picture.is_some()),
                TrackedUpdate::End(TrackedEnd::Failed(_)) => end = None,
                _ => {}
            }
        }
        (steps, end)
    }

    #[tokio::test]
    async fn a_detached_request_is_drawn_although_its_client_left_before_it_became_jobs() {
        let (store, mut played) = open();
        let pending = store
            .ask_detached(prompt(), "a".into())
            .await
            .expect("asked");
        drop(pending);
        let asked = played.request().await;
        assert!(asked.request.detached);
        let updates = asked.accept(accepted(1, 1));
        updates.send(step(1, 1)).await.expect("the store listens");
        updates
            .send(picture(1, 192))
            .await
            .expect("the store listens");
        assert_eq!(
            played.gone().await,
            Some(Ticket(1)),
            "the store is done with it"
        );
        let own = caller("a");
        let stored = store.picture(JobId(1), &own).expect("it is kept");
        assert_eq!(stored.picture.rgb8.len(), 192);
        let late = store.follow(JobId(1), &own).expect("it is known");
        assert_eq!(read(late).await, (vec![1], Some(true)));
        assert!(store.picture(JobId(1), &caller("b")).is_err());
    }

    #[tokio::test]
    async fn readers_may_come_at_any_time_and_each_gets_the_end() {
        let (store, mut played) = open();
        let pending = store
            .ask_detached(prompt(), "a".into())
            .await
            .expect("asked");
        let updates = played.request().await.accept(accepted(1, 1));
        pending.answer().await.expect("accepted");
        let own = caller("a");
        let early = tokio::spawn(read(store.follow(JobId(1), &own).expect("known")));
        let slow = store.follow(JobId(1), &own).expect("known");
        for index in 1..=3 {
            updates
                .send(step(1, index))
                .await
                .expect("the store listens");
        }
        updates
            .send(picture(1, 192))
            .await
            .expect("the store listens");
        assert_eq!(early.await.expect("it ends"), (vec![1, 2, 3], Some(true)));
        assert_eq!(read(slow).await, (vec![1, 2, 3], Some(true)));
        let late = store.follow(JobId(1), &own).expect("known");
        assert_eq!(read(late).await, (vec![1, 2, 3], Some(true)));
    }

    #[tokio::test]
    async fn a_dropped_guard_tells_the_pool_and_the_end_is_still_recorded() {
        let (store, mut played) = open();
        let pending = store
            .ask_attached(prompt(), "a".into())
            .await
            .expect("asked");
        let updates = played.request().await.accept(accepted(1, 1));
        let attached = pending.answer().await.expect("accepted");
        let reader = store.follow(JobId(1), &caller("a")).expect("known");
        drop(attached);
        assert_eq!(played.gone().await, Some(Ticket(1)));
        let failure = Failure::new(FailureKind::Cancelled, "cancelled by the client");
        let job = JobId(1);
        updates
            .send(JobUpdate::Failed { job, failure })
            .await
            .expect("the store still listens");
        assert_eq!(read(reader).await, (vec![], None));
        let status = store.known(job, &caller("a"), &[]).expect("known");
        assert_eq!(status.state, JobState::Cancelled);
    }

    #[tokio::test]
    async fn an_attached_client_gets_every_answer_however_slow_it_is() {
        let (store, mut played) = open();
        let pending = store
            .ask_attached(prompt(), "a".into())
            .await
            .expect("asked");
        let updates = played.request().await.accept(accepted(1, 2));
        let mut attached = pending.answer().await.expect("accepted");
        for index in 1..=500 {
            updates
                .send(step(1, index))
                .await
                .expect("the store listens");
        }
        for job in [1, 2] {
            updates
                .send(picture(job, 192))
                .await
                .expect("the store listens");
        }
        // The store has read everything before the client reads anything.
        assert_eq!(played.gone().await, Some(Ticket(1)));
        let mut answers = 0;
        while let Some(update) = attached.updates.recv().await {
            answers += usize::from(matches!(update, JobUpdate::Picture(_)));
        }
        assert_eq!(answers, 2);
        assert!(store.picture(JobId(1), &caller("a")).is_err());
    }

    #[tokio::test]
    async fn a_request_that_waits_for_files_is_listed_and_its_client_hears_of_the_fetch() {
        let (store, mut played) = open();
        let mut pending = store
            .ask_detached(prompt(), "a".into())
            .await
            .expect("asked");
        let asked = played.request().await;
        let far = Fetching {
            model: ModelKey::new("m").expect("a plain key"),
            here_bytes: 1,
            all_bytes: 9,
        };
        asked.wait_for(AwaitedFiles {
            model: far.model.clone(),
            jobs: vec![JobId(1)],
            far: Some(far.clone()),
        });
        assert!(matches!(pending.next().await, StartUpdate::Fetching(told) if told == far));
        let own = caller("a");
        let status = store.known(JobId(1), &own, &[]).expect("it has an id");
        assert_eq!((status.state, status.seed), (JobState::Queued, None));
        let mut reader = store.follow(JobId(1), &own).expect("it has an id");
        assert!(matches!(
            reader.next().await,
            Some(TrackedUpdate::Fetching(_))
        ));
        asked.refuse(Failure::new(FailureKind::ModelMissing, "not found"));
        assert!(pending.answer().await.is_err());
        assert_eq!(read(reader).await, (vec![], None));
        let status = store.known(JobId(1), &own, &[]).expect("it is known");
        assert_eq!(status.state, JobState::Failed);
    }

    #[tokio::test]
    async fn an_attached_client_that_leaves_during_a_fetch_ends_its_request() {
        let (store, mut played) = open();
        let pending = store
            .ask_attached(prompt(), "a".into())
            .await
            .expect("asked");
        let asked = played.request().await;
        drop(pending);
        assert_eq!(played.gone().await, None);
        drop(asked);
    }

    #[tokio::test]
    async fn a_pool_that_ends_without_an_answer_ends_every_job() {
        let (store, mut played) = open();
        let pending = store
            .ask_detached(prompt(), "a".into())
            .await
            .expect("asked");
        let updates = played.request().await.accept(accepted(1, 2));
        pending.answer().await.expect("accepted");
        let reader = store.follow(JobId(2), &caller("a")).expect("known");
        drop((updates, played));
        assert_eq!(read(reader).await, (vec![], None));
    }
}
