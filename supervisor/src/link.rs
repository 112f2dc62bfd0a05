//! The daemon's end of one worker's socket: bounded queues for frames in and out.
//!
//! A worker that floods its socket affects only its own link: its mailbox fills up, so its socket is not read, and
//! heartbeats are merged. `FRAMES_PER_SECOND` and `FRAMES_LATE_MAX` say how long that is tolerated.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use interprocess::os::unix::uds_local_socket::tokio::Stream;
use ipc_protocol::connection::ConnectionError;
use ipc_protocol::messages::worker::{FromWorker, ToWorker};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{self, Shutdown};
use pool::Moment;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::allowance::Allowance;
use crate::frames;

/// Most frames that wait for a worker to read them. A worker has at most one order, so a full queue means that it
/// does not read.
const OUTGOING_MAX: usize = 16;
/// Most frames of a worker that wait for the loop.
const MAILBOX_MAX: usize = 32;
/// Most frames per second that a worker may send. Steps and pictures do not count, because they are checked against
/// its order. A normal worker sends two heartbeats per second.
const FRAMES_PER_SECOND: u64 = 100;
/// Most frames at once: a fast load reports its progress a thousand times.
const FRAMES_BURST: u64 = 3000;
/// Most consecutive frames beyond these limits. They are read as slowly as the rate allows; one more breaks the
/// protocol.
const FRAMES_LATE_MAX: u32 = 500;

/// An event on a worker's socket.
#[derive(Debug)]
pub enum Heard {
    /// A message.
    Message(Box<FromWorker>),
    /// An invalid frame or too many frames; the socket is no longer read.
    Garbled(String),
    /// The worker closed the socket.
    Closed,
}

/// The services that a link needs from the supervisor.
pub trait Environment: Send + Sync + 'static {
    /// Returns the current moment.
    fn now(&self) -> Moment;
    /// Wakes the loop, because a mailbox has an event.
    fn wake(&self);
    /// Measures the worker's highest memory use and stores it for the loop. May block.
    fn measure(&self);
}

/// The connection to one worker.
#[derive(Debug)]
pub struct Link {
    outgoing: mpsc::Sender<ToWorker>,
    incoming: Arc<Incoming>,
    listener: JoinHandle<()>,
}

/// The outgoing queue is full: the worker does not read its socket.
#[derive(Debug, thiserror::Error)]
#[error("the worker does not read its socket")]
pub struct Deaf;

impl Link {
    /// Starts to read and write the daemon's end of a socket pair.
    ///
    /// # Errors
    /// The runtime cannot watch the socket.
    pub fn open(socket: OwnedFd, environment: Arc<impl Environment>) -> io::Result<Self> {
        let stream = Stream::try_from(socket).map_err(|error| {
            io::Error::other(format!("cannot watch a worker's socket: {error}"))
        })?;
        let incoming = Arc::new(Incoming {
            stream,
            mailbox: Mutex::default(),
            room: Notify::new(),
            is_taking: AtomicBool::new(false),
            is_ended: AtomicBool::new(false),
        });
        let (sender, outgoing) = mpsc::channel(OUTGOING_MAX);
        tokio::spawn(speak(Arc::clone(&incoming), outgoing));
        let listener = tokio::spawn(listen(Arc::clone(&incoming), environment));
        Ok(Self {
            outgoing: sender,
            incoming,
            listener,
        })
    }

    /// Queues a message for the worker.
    pub fn say(&self, message: ToWorker) -> Result<(), Deaf> {
        self.outgoing.try_send(message).map_err(|_| Deaf)
    }

    /// Reads what has arrived, then stops. Called when the worker has exited: if another process still has its end of
    /// the socket, what that sends is ignored.
    pub fn hear_the_rest(&self) {
        self.incoming.is_ended.store(true, Ordering::Relaxed);
        // Fails only with ENOTCONN: it is closed already. Data sent before is still read (unix(7)).
        let socket = self.incoming.stream.as_fd().as_raw_fd();
        let _ = socket::shutdown(socket, Shutdown::Both);
    }

    /// Takes the oldest event out of the mailbox. The last event is `Garbled` or `Closed`.
    pub fn next(&self) -> Option<Heard> {
        let heard = self.incoming.mailbox().pop_front()?;
        self.incoming.room.notify_one();
        Some(heard)
    }

    /// Whether the mailbox has an event for [`Link::next`].
    pub fn has_next(&self) -> bool {
        !self.incoming.mailbox().is_empty()
    }

    /// Whether an event is unread: in the mailbox, on its way there, or in the kernel. If not, the worker has been
    /// silent up to this call.
    pub fn has_unread(&self) -> bool {
        // The order matters: a frame that leaves the kernel after the first check is found by the later ones.
        self.incoming.is_readable()
            || self.incoming.is_taking.load(Ordering::SeqCst)
            || self.has_next()
    }

    /// Stops reading and discards all unread events.
    pub fn deafen(&self) {
        self.listener.abort();
        self.incoming.mailbox().clear();
    }
}

/// The incoming side: the socket and the mailbox.
#[derive(Debug)]
struct Incoming {
    stream: Stream,
    mailbox: Mutex<VecDeque<Heard>>,
    /// Notified when the loop has taken an event out of the mailbox.
    room: Notify,
    /// Whether a frame has left the kernel, or is about to, and is not yet in the mailbox.
    is_taking: AtomicBool,
    /// Whether the worker has exited, so that no more data will arrive.
    is_ended: AtomicBool,
}

impl Incoming {
    fn mailbox(&self) -> MutexGuard<'_, VecDeque<Heard>> {
        let mailbox = self.mailbox.lock();
        mailbox.expect("no holder of this lock can panic")
    }

    /// Whether the kernel has unread bytes or the end of file.
    fn is_readable(&self) -> bool {
        let mut socket = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
        poll(&mut socket, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Puts an event into the mailbox, waiting while it is full. Of consecutive heartbeats only the newest is kept.
    async fn deliver(&self, heard: Heard) {
        let mut heard = Some(heard);
        loop {
            if self.delivered(&mut heard) {
                self.is_taking.store(false, Ordering::SeqCst);
                return;
            }
            self.room.notified().await;
        }
    }

    fn delivered(&self, heard: &mut Option<Heard>) -> bool {
        let mut mailbox = self.mailbox();
        let last = mailbox.back_mut();
        if let (Some(last), Some(new)) = (last, &*heard)
            && last.is_sign_of_life()
            && new.is_sign_of_life()
        {
            if let Some(heard) = heard.take() {
                *last = heard;
            }
        } else if mailbox.len() < MAILBOX_MAX {
            mailbox.extend(heard.take());
        }
        heard.is_none()
    }
}

impl Heard {
    fn is_sign_of_life(&self) -> bool {
        matches!(self, Self::Message(message) if matches!(**message, FromWorker::Heartbeat { .. }))
    }
}

/// Reads the socket; sets `is_taking` before a frame leaves the kernel.
struct LinkReader<'a>(&'a Incoming);

impl AsyncRead for LinkReader<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.is_taking.store(true, Ordering::SeqCst);
        let read = Pin::new(&mut &self.0.stream).poll_read(context, bytes);
        if read.is_pending() {
            self.0.is_taking.store(false, Ordering::SeqCst);
        }
        read
    }
}

async fn speak(incoming: Arc<Incoming>, mut outgoing: mpsc::Receiver<ToWorker>) {
    while let Some(message) = outgoing.recv().await {
        // The listener sees a broken socket too, and reports it.
        if frames::write(&mut &incoming.stream, &message)
            .await
            .is_err()
        {
            return;
        }
    }
}

async fn listen(incoming: Arc<Incoming>, environment: Arc<impl Environment>) {
    let mut traffic = Traffic::default();
    loop {
        let mut heard = match frames::read(&mut LinkReader(&incoming)).await {
            Ok(message) => Heard::Message(Box::new(message)),
            Err(ConnectionError::Frame(error)) => Heard::Garbled(error.to_string()),
            Err(ConnectionError::Closed | ConnectionError::Io(_)) => Heard::Closed,
        };
        if let Heard::Message(message) = &heard {
            let is_ended = incoming.is_ended.load(Ordering::Relaxed);
            if !is_ended && let Err(what) = traffic.admit(message, &*environment).await {
                heard = Heard::Garbled(what);
            } else if matches!(**message, FromWorker::Ready { .. }) {
                let environment = Arc::clone(&environment);
                // Fails only if `measure` panics, which prints its own message.
                let _ = spawn_blocking(move || environment.measure()).await;
            }
        }
        let is_last = matches!(heard, Heard::Garbled(_) | Heard::Closed);
        incoming.deliver(heard).await;
        environment.wake();
        if is_last {
            return;
        }
    }
}

/// The rate of a worker's frames.
#[derive(Debug)]
struct Traffic {
    allowance: Allowance,
    /// Consecutive frames that had to wait for the rate.
    late: u32,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            allowance: Allowance::new(FRAMES_PER_SECOND, FRAMES_BURST),
            late: 0,
        }
    }
}

impl Traffic {
    /// Waits until the rate allows this frame; the socket is not read meanwhile.
    async fn admit(
        &mut self,
        message: &FromWorker,
        environment: &impl Environment,
    ) -> Result<(), String> {
        if matches!(message, FromWorker::Step { .. } | FromWorker::Done { .. }) {
            return Ok(());
        }
        let Err(wait) = self.allowance.take(environment.now(), 1) else {
            self.late = 0;
            return Ok(());
        };
        self.late += 1;
        if self.late > FRAMES_LATE_MAX {
            return Err(format!(
                "it keeps sending more than {FRAMES_PER_SECOND} frames per second"
            ));
        }
        tokio::time::sleep(wait).await;
        // A timer may fire slightly early; then the next frame waits longer.
        let _ = self.allowance.take(environment.now(), 1);
        Ok(())
    }
}
