//! Our end of one worker's socket: frames in to whoever listens, frames out from a bounded queue.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use interprocess::local_socket::tokio::Stream;
use interprocess::os::unix::uds_local_socket::tokio::Stream as UnixStream;
use ipc_protocol::connection::ConnectionError;
use ipc_protocol::messages::worker::{FromWorker, ToWorker};
use tokio::sync::mpsc;

use crate::frames;

/// Frames that may wait for a worker to read them. A worker has one order at most, so more than this
/// means that it does not listen.
const OUTGOING_MAX: usize = 16;

/// What a worker did with its socket.
#[derive(Debug)]
pub enum Heard {
    /// It said something.
    Message(Box<FromWorker>),
    /// It said what cannot be understood; nothing further is listened to.
    Garbled(String),
    /// It closed the socket.
    Closed,
}

/// The way to one worker.
#[derive(Debug)]
pub struct Link(mpsc::Sender<ToWorker>);

/// The worker does not take any more frames.
#[derive(Debug, thiserror::Error)]
#[error("the worker does not read its socket")]
pub struct Deaf;

impl Link {
    /// Takes over our end of a socket pair. `hear` is awaited for everything that arrives, in order;
    /// the last thing is `Garbled` or `Closed`.
    pub fn open<F, Fut>(socket: OwnedFd, hear: F) -> io::Result<Self>
    where
        F: Fn(Heard) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let stream = UnixStream::try_from(socket).map_err(|error| {
            io::Error::other(format!("cannot watch a worker's socket: {error}"))
        })?;
        let stream = Arc::new(Stream::from(stream));
        let (sender, outgoing) = mpsc::channel(OUTGOING_MAX);
        tokio::spawn(speak(Arc::clone(&stream), outgoing));
        tokio::spawn(listen(stream, hear));
        Ok(Self(sender))
    }

    /// Queues a message for the worker.
    pub fn say(&self, message: ToWorker) -> Result<(), Deaf> {
        self.0.try_send(message).map_err(|_| Deaf)
    }
}

async fn speak(stream: Arc<Stream>, mut outgoing: mpsc::Receiver<ToWorker>) {
    while let Some(message) = outgoing.recv().await {
        // A broken pipe is seen by the listener as well, which tells.
        if frames::write(&mut &*stream, &message).await.is_err() {
            return;
        }
    }
}

async fn listen<F, Fut>(stream: Arc<Stream>, hear: F)
where
    F: Fn(Heard) -> Fut,
    Fut: Future<Output = ()>,
{
    loop {
        match frames::read(&mut &*stream).await {
            Ok(message) => hear(Heard::Message(Box::new(message))).await,
            Err(ConnectionError::Frame(error)) => {
                return hear(Heard::Garbled(error.to_string())).await;
            }
            Err(ConnectionError::Closed | ConnectionError::Io(_)) => {
                return hear(Heard::Closed).await;
            }
        }
    }
}
