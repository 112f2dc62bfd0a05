//! One client at the native door: frames of `ipc_protocol`, one request at a time.

use std::sync::Arc;
use std::time::Duration;

use interprocess::local_socket::tokio::Stream;
use ipc_protocol::connection::ConnectionError;
use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::JobId;
use ipc_protocol::log::LogRequest;
use ipc_protocol::messages::client::{FromPool, ToPool, Told, Verb};
use ipc_protocol::version::{BUILD, PROTOCOL};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::api::jobs::ended;
use crate::api::jobs::store::JobStore;
use crate::api::places::{ClientPlace, ClientPlaces};
use crate::api::rights::{ClientRights, Operators};
use crate::api::stall::StallLimited;
use crate::api::unsent::ClientBytes;
use crate::driver::handle::{Caller, Handle};
use crate::frames;
use crate::telemetry::doors;

/// How long a new client may take to send its hello; then it is disconnected.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may take to send the rest of a message; then it is disconnected.
const FRAME_PATIENCE: Duration = Duration::from_secs(10);

/// The shared state of all connections of a door.
#[derive(Debug)]
pub(super) struct Context {
    /// Sends requests to the daemon's loop.
    pub handle: Handle,
    /// Starts requests and keeps their jobs.
    pub jobs: JobStore,
    /// The users that may operate the pool.
    pub operators: Operators,
    /// The places of all clients.
    pub places: ClientPlaces,
    /// Lists of jobs that are made at a time.
    pub listings: Semaphore,
}

pub(super) struct ConnectedClient {
    stream: Arc<Stream>,
    pub context: Arc<Context>,
    /// Its rights, from the user id that the kernel reports.
    pub rights: ClientRights,
    pub words: mpsc::Receiver<ToPool>,
    /// Its place among the clients.
    place: ClientPlace,
    /// The bytes that wait for it.
    pub bytes: ClientBytes,
}

/// Serves one client until it disconnects; then its jobs that are not detached are cancelled.
pub(super) async fn converse(
    stream: Stream,
    rights: ClientRights,
    place: ClientPlace,
    context: Arc<Context>,
) {
    let stream = Arc::new(stream);
    let (sender, words) = mpsc::channel(4);
    let reader = tokio::spawn(listen(Arc::clone(&stream), sender));
    let mut client = ConnectedClient {
        stream,
        rights,
        context,
        words,
        place,
        bytes: ClientBytes::default(),
    };
    // Any error only ends this connection; dropping its requests cancels their jobs.
    if let Err(error) = client.serve().await {
        doors::conversation_ended(&error);
    }
    reader.abort();
    // Its copy of the stream closes before the place is free, so that the descriptor goes to the reserve.
    let _ = reader.await;
}

/// Reads frames in a separate task, because cancelling a read would lose the bytes read so far.
async fn listen(stream: Arc<Stream>, words: mpsc::Sender<ToPool>) {
    loop {
        match frames::read_within(&mut &*stream, FRAME_PATIENCE).await {
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
            if takes_long(&word)
                && let Err(none) = self.place.check_long()
            {
                self.refuse(none.into()).await?;
                continue;
            }
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
                ToPool::Wait { job } => self.wait(job).await?,
                ToPool::Jobs => self.list_jobs().await?,
                ToPool::Tail(request) => self.tail(request).await?,
                ToPool::Events { follow } => self.events(follow).await?,
                ToPool::Available => self.list_available().await?,
                ToPool::Obituaries { of, most } => self.obituaries(of, most).await?,
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
            () = self.place.has_to_leave() => None,
        }
    }

    pub async fn cancel(&self, job: JobId) {
        // Fails only if the loop has ended; then the jobs' answers say so.
        let _ = self.context.handle.cancel(job, self.caller()).await;
    }

    async fn operate(&self, verb: Verb) -> Result<Told, Failure> {
        self.rights.check(&verb)?;
        let told = self.context.handle.operate(verb.clone(), self.caller());
        match (told.await, verb) {
            (Err(unknown), Verb::Why { job }) if unknown.kind == FailureKind::NoSuchName => {
                let sentence = self.ended(job).await?.ok_or(unknown)?;
                Ok(told_of_ended(sentence, true))
            }
            (Err(unknown), Verb::CancelJob { job }) if unknown.kind == FailureKind::NoSuchName => {
                let sentence = self.ended(job).await?.ok_or(unknown)?;
                Ok(told_of_ended(format!("{job}: ERROR ({sentence})"), false))
            }
            (told, _) => told,
        }
    }

    /// The end of a job that the loop does not know any longer, in a sentence; `None` if it has not ended.
    ///
    /// # Errors
    /// `NoSuchName`: the client has no such job.
    async fn ended(&self, job: JobId) -> Result<Option<String>, Failure> {
        let (jobs, caller) = (&self.context.jobs, self.caller());
        let status = jobs.find(job, &caller).await?;
        let gone = jobs.picture(job, &caller).err();
        Ok(ended::sentence(&status, gone.as_ref()))
    }

    pub fn caller(&self) -> Caller {
        Caller {
            user: self.rights.user(),
            operator: self.rights.operator,
        }
    }

    pub async fn refuse(&self, failure: Failure) -> Result<(), ConnectionError> {
        self.say(&FromPool::Refused(failure.fitting())).await
    }

    pub async fn say(&self, message: &FromPool) -> Result<(), ConnectionError> {
        self.say_with(message, &[]).await
    }

    pub async fn say_with(&self, message: &FromPool, raw: &[u8]) -> Result<(), ConnectionError> {
        frames::write_with(&mut self.writer(), message, raw).await
    }

    /// Sends messages that are already encoded.
    pub async fn say_encoded(&self, frames: &[u8]) -> Result<(), ConnectionError> {
        frames::write_encoded(&mut self.writer(), frames).await
    }

    /// The way to the client, which fails if it does not read.
    fn writer(&self) -> StallLimited<&Stream> {
        StallLimited::new(&*self.stream, self.place.unsent(), self.bytes.clone())
    }
}

fn told_of_ended(line: String, success: bool) -> Told {
    Told {
        lines: vec![line],
        success,
        more: false,
    }
}

/// Whether a client that asks this keeps its place for long.
fn takes_long(word: &ToPool) -> bool {
    match word {
        ToPool::Generate(_) | ToPool::Wait { .. } => true,
        ToPool::Tail(LogRequest { follow, .. }) | ToPool::Events { follow } => *follow,
        ToPool::Hello { .. }
        | ToPool::Cancel { .. }
        | ToPool::Status
        | ToPool::Operate(_)
        | ToPool::Jobs
        | ToPool::Available
        | ToPool::Obituaries { .. } => false,
    }
}
