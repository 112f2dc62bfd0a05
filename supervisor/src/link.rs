//! Our end of one worker's socket: frames in to whoever listens, frames out from a bounded queue.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use interprocess::os::unix::uds_local_socket::tokio::Stream as UnixStream;
use ipc_protocol::connection::ConnectionError;
use ipc_protocol::messages::worker::{FromWorker, ToWorker};
use nix::sys::socket::{self, Shutdown};
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
pub struct Link {
    outgoing: mpsc::Sender<ToWorker>,
    stream: Arc<UnixStream>,
}

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
        let stream = Arc::new(stream);
        let (sender, outgoing) = mpsc::channel(OUTGOING_MAX);
        tokio::spawn(speak(Arc::clone(&stream), outgoing));
        tokio::spawn(listen(Arc::clone(&stream), hear));
        Ok(Self {
            outgoing: sender,
            stream,
        })
    }

    /// Queues a message for the worker.
    pub fn say(&self, message: ToWorker) -> Result<(), Deaf> {
        self.outgoing.try_send(message).map_err(|_| Deaf)
    }

    /// Hears what has arrived and nothing after it: the worker is gone, and whoever still holds its end of
    /// the socket is none of ours.
    pub fn hear_the_rest(&self) {
        // ENOTCONN only: it is closed already. Data that was sent before is still read (unix(7)).
        let _ = socket::shutdown(self.stream.as_fd().as_raw_fd(), Shutdown::Both);
    }
}

async fn speak(stream: Arc<UnixStream>, mut outgoing: mpsc::Receiver<ToWorker>) {
    while let Some(message) = outgoing.recv().await {
        // A broken pipe is seen by the listener as well, which tells.
        if frames::write(&mut &*stream, &message).await.is_err() {
            return;
        }
    }
}

async fn listen<F, Fut>(stream: Arc<UnixStream>, hear: F)
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
