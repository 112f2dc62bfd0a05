//! Requests for pictures at the native door, and waiting for those of earlier requests.

use std::sync::Arc;

use ipc_protocol::connection::ConnectionError;
use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::frame;
use ipc_protocol::ids::JobId;
use ipc_protocol::messages::client::{CHUNK_BYTES_MAX, FromPool, PromptTexts, ToPool};
use ipc_protocol::request::ImageRequest;
use pool::{AcceptedJobs, Progress};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use super::conversation::ConnectedClient;
use crate::api::jobs::ring::{TrackedEnd, TrackedUpdate};
use crate::api::jobs::start::{AttachedRequest, PendingStart, StartUpdate};
use crate::api::reply;
use crate::driver::handle::{FinishedPicture, JobUpdate};

impl ConnectedClient {
    pub async fn generate(&mut self, mut request: ImageRequest) -> Result<(), ConnectionError> {
        if let Err(failure) = request.check() {
            return self.refuse(failure).await;
        }
        let user = match request.user.take() {
            None => self.rights.user(),
            Some(name) => match self.named_user(name).await {
                Ok(user) => user,
                Err(failure) => return self.refuse(failure).await,
            },
        };
        if request.detached {
            let asked = self.context.jobs.ask_detached(request, user).await;
            let Some(accepted) = self.started(asked).await? else {
                return Ok(());
            };
            return self
                .say(&FromPool::Accepted(reply::accepted(&accepted)))
                .await;
        }
        let asked = self.context.jobs.ask_attached(request, user).await;
        let Some(attached) = self.started(asked).await? else {
            return Ok(());
        };
        self.say(&FromPool::Accepted(reply::accepted(&attached.accepted)))
            .await?;
        self.attend(attached).await
    }

    /// The user that a request's jobs count for if it names one. Looked up on another thread, because a directory of
    /// users may be slow.
    async fn named_user(&self, name: String) -> Result<String, Failure> {
        let (operators, rights) = (self.context.operators.clone(), self.rights);
        let found = tokio::task::spawn_blocking(move || operators.named_user(rights, &name));
        found.await.unwrap_or_else(|_| {
            Err(Failure::new(
                FailureKind::Internal,
                "the user could not be looked up",
            ))
        })
    }

    /// Waits until a request has become jobs. `None` if it is refused, or if the client has left.
    async fn started<T>(
        &mut self,
        asked: Result<PendingStart<T>, Failure>,
    ) -> Result<Option<T>, ConnectionError> {
        let mut asked = match asked {
            Ok(asked) => asked,
            Err(failure) => return self.refuse(failure).await.map(|()| None),
        };
        loop {
            tokio::select! {
                update = asked.next() => match update {
                    StartUpdate::Fetching(far) => self.say(&FromPool::Fetching(far)).await?,
                    StartUpdate::Answer(Ok(started)) => return Ok(Some(started)),
                    StartUpdate::Answer(Err(failure)) => {
                        return self.refuse(failure).await.map(|()| None);
                    }
                },
                // No job exists yet that could be cancelled, so any message ends the connection.
                _ = self.words.recv() => return Err(ConnectionError::Closed),
            }
        }
    }

    /// Forwards the updates of a request until all its jobs have their answers.
    async fn attend(&mut self, mut attached: AttachedRequest) -> Result<(), ConnectionError> {
        let mut unanswered = attached.accepted.jobs.len();
        self.bytes = attached.unsent.clone();
        while unanswered > 0 {
            tokio::select! {
                update = attached.updates.recv() => match update {
                    Some(update) => {
                        let bytes = update.picture_bytes();
                        let is_answer = self.pass_on(&attached.accepted, update).await?;
                        self.bytes.subtract(bytes);
                        unanswered -= usize::from(is_answer);
                    }
                    None => return Ok(()),
                },
                word = self.words.recv() => match word {
                    Some(ToPool::Cancel { job }) => self.cancel(job).await,
                    // Any other message before the answers is a protocol error; disconnecting cancels the jobs.
                    Some(_) | None => return Err(ConnectionError::Closed),
                },
            }
        }
        Ok(())
    }

    /// Forwards one update to the client. Returns whether it was a job's answer.
    async fn pass_on(
        &self,
        accepted: &AcceptedJobs,
        update: JobUpdate,
    ) -> Result<bool, ConnectionError> {
        match update {
            JobUpdate::Progress { job, progress } => {
                if let Some(message) = progress_message(job, progress) {
                    self.say(&message).await?;
                }
                Ok(false)
            }
            JobUpdate::Preview {
                job, size, rgb8, ..
            } => {
                let message = FromPool::Image {
                    job,
                    index: index(accepted, job),
                    size,
                    preview: true,
                    offset: 0,
                    len: rgb8.len() as u32,
                };
                self.say_with(&message, &rgb8).await?;
                Ok(false)
            }
            JobUpdate::Failed { job, failure } => {
                self.fail(job, failure).await?;
                Ok(true)
            }
            JobUpdate::Picture(picture) => {
                self.send_picture(accepted, &picture).await?;
                Ok(true)
            }
        }
    }

    /// Follows a job of an earlier request until its answer.
    pub async fn wait(&mut self, job: JobId) -> Result<(), ConnectionError> {
        let (jobs, caller) = (self.context.jobs.clone(), self.caller());
        let (mut reader, facts) = match (jobs.follow(job, &caller), jobs.facts(job, &caller)) {
            (Ok(reader), Ok(facts)) => (reader, facts),
            (Err(failure), _) | (_, Err(failure)) => return self.refuse(failure).await,
        };
        if let Err(gone) = jobs.picture(job, &caller)
            && gone.kind == FailureKind::PictureGone
        {
            return self.refuse(gone).await;
        }
        self.say(&FromPool::Texts(PromptTexts {
            prompt: facts.request.prompt.clone(),
            negative: facts.request.negative.clone(),
        }))
        .await?;
        let mut accepted = None;
        loop {
            tokio::select! {
                update = reader.next() => match update {
                    Some(TrackedUpdate::Accepted(jobs)) => {
                        self.say(&FromPool::Accepted(reply::accepted(&jobs))).await?;
                        accepted = Some(jobs);
                    }
                    Some(TrackedUpdate::End(TrackedEnd::Finished(None))) => {
                        // It ended for its own client, or its memory was needed before this client read it.
                        let gone = jobs.picture(job, &caller).err();
                        let gone = gone.unwrap_or_else(|| no_picture(job));
                        return self.end(accepted.as_ref(), job, gone).await;
                    }
                    Some(TrackedUpdate::End(TrackedEnd::Failed(failure))) => {
                        return self.end(accepted.as_ref(), job, failure).await;
                    }
                    Some(update) => {
                        if self.pass_tracked(accepted.as_deref(), job, update).await? {
                            return Ok(());
                        }
                    }
                    None => return Ok(()),
                },
                word = self.words.recv() => match word {
                    Some(ToPool::Cancel { job }) => self.cancel(job).await,
                    // Any other message ends the connection. The job continues.
                    Some(_) | None => return Err(ConnectionError::Closed),
                },
            }
        }
    }

    /// Forwards an update of a job that the client waits for. Returns whether it was the picture.
    async fn pass_tracked(
        &self,
        accepted: Option<&AcceptedJobs>,
        job: JobId,
        update: TrackedUpdate,
    ) -> Result<bool, ConnectionError> {
        match (update, accepted) {
            (TrackedUpdate::Fetching(far), None) => {
                self.say(&FromPool::Fetching(far)).await?;
                Ok(false)
            }
            (TrackedUpdate::Progress(progress), Some(accepted)) => {
                let update = JobUpdate::Progress { job, progress };
                self.pass_on(accepted, update).await
            }
            (TrackedUpdate::Preview(preview), Some(accepted)) => {
                let update = JobUpdate::Preview {
                    job,
                    step: preview.step,
                    size: preview.size,
                    rgb8: preview.rgb8,
                };
                self.pass_on(accepted, update).await
            }
            (TrackedUpdate::End(TrackedEnd::Finished(Some(picture))), Some(accepted)) => {
                let update = JobUpdate::Picture(picture);
                self.bytes.set(update.picture_bytes());
                let sent = self.pass_on(accepted, update).await;
                self.bytes.set(0);
                sent
            }
            // Out of order: the ring gives progress only after the acceptance.
            (
                TrackedUpdate::Fetching(_)
                | TrackedUpdate::Accepted(_)
                | TrackedUpdate::Progress(_)
                | TrackedUpdate::Preview(_)
                | TrackedUpdate::End(_),
                _,
            ) => Ok(false),
        }
    }

    /// Sends the end of a job without a picture: as a refusal before its values are known.
    async fn end(
        &self,
        accepted: Option<&Arc<AcceptedJobs>>,
        job: JobId,
        failure: Failure,
    ) -> Result<(), ConnectionError> {
        match accepted {
            Some(_) => self.fail(job, failure).await,
            None => self.refuse(failure).await,
        }
    }

    async fn fail(&self, job: JobId, failure: Failure) -> Result<(), ConnectionError> {
        let failure = failure.fitting();
        self.say(&FromPool::Failed { job, failure }).await
    }

    /// Lists the client's jobs.
    pub async fn list_jobs(&mut self) -> Result<(), ConnectionError> {
        let frames = self.listed().await?;
        self.bytes.set(frames.len() as u64);
        let sent = self.say_encoded(&frames).await;
        self.bytes.set(0);
        sent
    }

    /// The messages that list the client's jobs. They are made beside the tasks that serve clients, and one client's at a
    /// time, because a long list takes long.
    async fn listed(&self) -> Result<Vec<u8>, ConnectionError> {
        // Fails only if the semaphore is closed, which nobody does.
        let _turn = self.context.listings.acquire().await.ok();
        let (jobs, caller) = (self.context.jobs.clone(), self.caller());
        let runtime = Handle::current();
        let listing = spawn_blocking(move || {
            let mut frames = Vec::new();
            for job in runtime.block_on(jobs.list(&caller)) {
                frames.extend(frame::encode(&FromPool::Job(Box::new(job)))?);
            }
            frames.extend(frame::encode(&FromPool::JobsEnd)?);
            Ok(frames)
        });
        listing.await.unwrap_or(Err(ConnectionError::Closed))
    }

    async fn send_picture(
        &self,
        accepted: &AcceptedJobs,
        picture: &FinishedPicture,
    ) -> Result<(), ConnectionError> {
        let mut offset = 0;
        for chunk in picture.rgb8.chunks(CHUNK_BYTES_MAX as usize) {
            let message = FromPool::Image {
                job: picture.job,
                index: index(accepted, picture.job),
                size: picture.facts.size,
                preview: false,
                offset,
                len: chunk.len() as u32,
            };
            self.say_with(&message, chunk).await?;
            offset += chunk.len() as u64;
        }
        self.say(&FromPool::Finished {
            job: picture.job,
            report: reply::report(picture, accepted.guidance),
        })
        .await
    }
}

fn no_picture(job: JobId) -> Failure {
    Failure::new(
        FailureKind::PictureGone,
        format!("the picture of job {job} is not kept"),
    )
}

/// The index of a job's picture in its request, from 0.
fn index(accepted: &AcceptedJobs, job: JobId) -> u32 {
    (job.0 - accepted.jobs[0].0) as u32
}

/// The message about a job's progress, if clients get one.
fn progress_message(job: JobId, progress: Progress) -> Option<FromPool> {
    Some(match progress {
        Progress::Waiting { position, reason } => FromPool::Waiting {
            job,
            position,
            reason,
        },
        Progress::Loading { permille } => FromPool::Loading { job, permille },
        Progress::Started { .. } => return None,
        Progress::Step {
            index,
            total,
            elapsed,
        } => FromPool::Step {
            job,
            step: index,
            steps: total,
            elapsed_ms: u32::try_from(elapsed.as_millis()).unwrap_or(u32::MAX),
        },
    })
}
