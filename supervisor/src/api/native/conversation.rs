//! One client at the native door: frames of `ipc_protocol`, one request at a time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use interprocess::local_socket::tokio::{Stream, prelude::*};
use ipc_protocol::connection::ConnectionError;
use ipc_protocol::failure::{Failure, FailureKind, Field};
use ipc_protocol::ids::JobId;
use ipc_protocol::messages::client::{CHUNK_BYTES_MAX, FromPool, ToPool, Told, Verb};
use ipc_protocol::request::ImageRequest;
use ipc_protocol::version::{BUILD, PROTOCOL};
use pool::Progress;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::idle::IdleClients;
use crate::api::reply;
use crate::api::rights::{ClientRights, Operators};
use crate::driver::handle::{
    AcceptedRequest, Caller, FinishedPicture, Handle, JobUpdate, PendingUpdate,
};
use crate::frames;
use crate::telemetry::doors;

/// How long a client may take to read a message; then it is disconnected.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
/// How long a new client may take to send its hello; then it is disconnected.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);

/// The shared state of all connections of a door.
#[derive(Debug)]
pub(super) struct Context {
    /// Sends requests to the daemon's loop.
    pub handle: Handle,
    /// The users that may operate the pool.
    pub operators: Operators,
    /// The clients without a request.
    pub idle: IdleClients,
}

struct ConnectedClient {
    stream: Arc<Stream>,
    context: Arc<Context>,
    /// Its rights, from the user id that the kernel reports.
    rights: ClientRights,
    words: mpsc::Receiver<ToPool>,
}

/// Serves one client until it disconnects; then its jobs that are not detached are cancelled.
pub(super) async fn converse(stream: Stream, context: Arc<Context>) {
    let uid = match stream.peer_creds() {
        Ok(creds) => creds.euid(),
        Err(error) => return doors::unknown_client(Some(&error)),
    };
    let Some(uid) = uid else {
        return doors::unknown_client(None);
    };
    let stream = Arc::new(stream);
    let (sender, words) = mpsc::channel(4);
    let reader = tokio::spawn(listen(Arc::clone(&stream), sender));
    let mut client = ConnectedClient {
        stream,
        rights: context.operators.rights(uid),
        context,
        words,
    };
    // Any error only ends this connection; dropping its requests cancels their jobs.
    if let Err(error) = client.serve().await {
        doors::conversation_ended(&error);
    }
    reader.abort();
}

/// Reads frames in a separate task, because cancelling a read would lose the bytes read so far.
async fn listen(stream: Arc<Stream>, words: mpsc::Sender<ToPool>) {
    loop {
        match frames::read(&mut &*stream).await {
            Ok(word) => {
                if words.send(word).await.is_err() {
                    return;
                }
            }
            Err(ConnectionError::Frame(error)) => {
                doors::not_a_frame(&error);
                return;
            }
            Err(ConnectionError::Closed | ConnectionError::Io(_)) => return,
        }
    }
}

impl ConnectedClient {
    async fn serve(&mut self) -> Result<(), ConnectionError> {
        let Ok(Some(ToPool::Hello { .. })) = timeout(HELLO_PATIENCE, self.words.recv()).await
        else {
            return Ok(());
        };
        // A client with another protocol version finds ours in this answer and reports the mismatch itself.
        self.say(&FromPool::Hello {
            protocol: PROTOCOL,
            version: BUILD.to_owned(),
            pid: std::process::id(),
        })
        .await?;
        while let Some(word) = self.next_word().await {
            match word {
                ToPool::Generate(request) => self.generate(request).await?,
                ToPool::Status => match self.context.handle.status().await {
                    Ok(report) => self.say_encoded(report.frames()?).await?,
                    Err(failure) => self.refuse(failure).await?,
                },
                ToPool::Operate(verb) => match self.operate(verb).await {
                    Ok(told) => {
                        for part in told.into_parts() {
                            self.say(&FromPool::Told(part)).await?;
                        }
                    }
                    Err(failure) => self.refuse(failure).await?,
                },
                ToPool::Cancel { job } => self.cancel(job).await,
                ToPool::Hello { .. } => return Ok(()),
            }
        }
        Ok(())
    }

    /// The client's next message; `None` if it disconnected, must be disconnected, or the loop has ended.
    async fn next_word(&mut self) -> Option<ToPool> {
        tokio::select! {
            word = self.words.recv() => word,
            () = self.context.handle.ended() => None,
            () = self.context.idle.has_to_leave() => None,
        }
    }

    async fn generate(&mut self, mut request: ImageRequest) -> Result<(), ConnectionError> {
        let user = match request.user.take() {
            None => self.rights.user(),
            Some(user) if self.rights.trusted => user,
            Some(_) => {
                let message =
                    "only the daemon's own user and root may send requests for another user";
                let failure = Failure {
                    field: Some(Field::User),
                    ..Failure::new(FailureKind::NotPermitted, message)
                };
                return self.refuse(failure).await;
            }
        };
        if let Err(failure) = request.check() {
            return self.refuse(failure).await;
        }
        let mut asked = match self.context.handle.ask(request, user).await {
            Ok(asked) => asked,
            Err(failure) => return self.refuse(failure).await,
        };
        let answer = loop {
            tokio::select! {
                word = asked.word() => match word {
                    PendingUpdate::Fetching(far) => self.say(&FromPool::Fetching(far)).await?,
                    PendingUpdate::Answer(answer) => break answer,
                },
                // No job exists yet that could be cancelled, so any message ends the connection.
                _ = self.words.recv() => return Ok(()),
            }
        };
        let mut ongoing = match answer {
            Ok(jobs) => asked.ongoing(jobs),
            Err(failure) => return self.refuse(failure).await,
        };
        self.say(&FromPool::Accepted(reply::accepted(&ongoing.accepted)))
            .await?;
        let mut unanswered = ongoing.accepted.jobs.len();
        while unanswered > 0 {
            tokio::select! {
                update = ongoing.updates.recv() => match update {
                    Some(update) => unanswered -= usize::from(self.pass_on(&ongoing, update).await?),
                    None => return Ok(()),
                },
                word = self.words.recv() => match word {
                    Some(ToPool::Cancel { job }) => self.cancel(job).await,
                    // Any other message before the answers is a protocol error; disconnecting cancels the jobs.
                    Some(_) | None => return Ok(()),
                },
            }
        }
        Ok(())
    }

    async fn cancel(&self, job: JobId) {
        // Fails only if the loop has ended; then the jobs' answers say so.
        let _ = self.context.handle.cancel(job, self.caller()).await;
    }

    async fn operate(&self, verb: Verb) -> Result<Told, Failure> {
        self.rights.check(&verb)?;
        self.context.handle.operate(verb, self.caller()).await
    }

    fn caller(&self) -> Caller {
        Caller {
            user: self.rights.user(),
            operator: self.rights.operator,
        }
    }

    /// Forwards one update to the client. Returns whether it was a job's answer.
    async fn pass_on(
        &self,
        ongoing: &AcceptedRequest,
        update: JobUpdate,
    ) -> Result<bool, ConnectionError> {
        match update {
            JobUpdate::Progress { job, progress } => {
                if let Some(message) = progress_message(job, progress) {
                    self.say(&message).await?;
                }
                Ok(false)
            }
            JobUpdate::Preview { job, size, rgb8 } => {
                let message = FromPool::Image {
                    job,
                    index: index(ongoing, job),
                    size,
                    preview: true,
                    offset: 0,
                    len: rgb8.len() as u32,
                };
                self.say_with(&message, &rgb8).await?;
                Ok(false)
            }
            JobUpdate::Failed { job, failure } => {
                self.say(&FromPool::Failed {
                    job,
                    failure: failure.fitting(),
                })
                .await?;
                Ok(true)
            }
            JobUpdate::Picture(picture) => {
                self.send_picture(ongoing, &picture).await?;
                Ok(true)
            }
        }
    }

    async fn send_picture(
        &self,
        ongoing: &AcceptedRequest,
        picture: &FinishedPicture,
    ) -> Result<(), ConnectionError> {
        let mut offset = 0;
        for chunk in picture.rgb8.chunks(CHUNK_BYTES_MAX as usize) {
            let message = FromPool::Image {
                job: picture.job,
                index: index(ongoing, picture.job),
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
            report: reply::report(picture, ongoing.accepted.guidance),
        })
        .await
    }

    async fn refuse(&self, failure: Failure) -> Result<(), ConnectionError> {
        self.say(&FromPool::Refused(failure.fitting())).await
    }

    async fn say(&self, message: &FromPool) -> Result<(), ConnectionError> {
        self.say_with(message, &[]).await
    }

    async fn say_with(&self, message: &FromPool, raw: &[u8]) -> Result<(), ConnectionError> {
        in_time(frames::write_with(&mut &*self.stream, message, raw)).await
    }

    async fn say_encoded(&self, frames: &[u8]) -> Result<(), ConnectionError> {
        in_time(frames::write_encoded(&mut &*self.stream, frames)).await
    }
}

/// Sends within [`WRITE_PATIENCE`], else fails with `TimedOut`.
async fn in_time(
    send: impl Future<Output = Result<(), ConnectionError>>,
) -> Result<(), ConnectionError> {
    match timeout(WRITE_PATIENCE, send).await {
        Ok(sent) => sent,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

/// The index of a job's picture in its request, from 0.
fn index(ongoing: &AcceptedRequest, job: JobId) -> u32 {
    (job.0 - ongoing.accepted.jobs[0].0) as u32
}

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
