//! Our end of one worker's socket: frames in to a bounded mailbox, frames out from a bounded queue.
//!
//! A worker that sends without end costs its own link alone: the mailbox is full, so its socket is not read, and
//! signs of life are merged. See `FRAMES_PER_SECOND` for how long that is tolerated.

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

/// Frames that may wait for a worker to read them. A worker has one order at most, so more than this
/// means that it does not listen.
const OUTGOING_MAX: usize = 16;
/// Frames of a worker that may wait for the loop.
const MAILBOX_MAX: usize = 32;
/// Frames that a worker may send, steps and pictures aside: those are compared with its order, and the first that
/// is too many ends it. It has reason for two signs of life a second.
const FRAMES_PER_SECOND: u64 = 100;
/// Frames at once: a load that ends quickly tells a thousand times how far it is.
const FRAMES_BURST: u64 = 3000;
/// Frames beyond the rate and the burst that are read, each as late as the rate allows, before the worker has
/// broken the protocol.
const FRAMES_LATE_MAX: u32 = 500;

/// What a worker did with its socket.
#[derive(Debug)]
pub enum Heard {
    /// It sent a message.
    Message(Box<FromWorker>),
    /// It sent what cannot be understood or is too much; it is not listened to any more.
    Garbled(String),
    /// It closed the socket.
    Closed,
}

/// What a link asks of the rest of the supervisor.
pub trait Environment: Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Moment;
    /// Wakes the loop: there is something in a mailbox.
    fn wake(&self);
    /// Measures what the worker held at most, and keeps it for the loop. May block.
    fn measure(&self);
}

/// The way to one worker.
#[derive(Debug)]
pub struct Link {
    outgoing: mpsc::Sender<ToWorker>,
    incoming: Arc<Incoming>,
    listener: JoinHandle<()>,
}

/// The worker does not take any more frames.
#[derive(Debug, thiserror::Error)]
#[error("the worker does not read its socket")]
pub struct Deaf;

impl Link {
    /// Takes over our end of a socket pair.
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

    /// Hears what has arrived and nothing after it: the worker is gone, and whoever still holds its end of
    /// the socket is none of ours.
    pub fn hear_the_rest(&self) {
        self.incoming.is_ended.store(true, Ordering::Relaxed);
        // ENOTCONN only: it is closed already. Data that was sent before is still read (unix(7)).
        let socket = self.incoming.stream.as_fd().as_raw_fd();
        let _ = socket::shutdown(socket, Shutdown::Both);
    }

    /// The oldest thing that the worker did and that was not taken yet. The last one is `Garbled` or `Closed`.
    pub fn next(&self) -> Option<Heard> {
        let heard = self.incoming.mailbox().pop_front()?;
        self.incoming.room.notify_one();
        Some(heard)
    }

    /// Whether there is anything that [`Link::next`] gives now.
    pub fn has_next(&self) -> bool {
        !self.incoming.mailbox().is_empty()
    }

    /// Whether the worker did something that was not taken yet: it is in the mailbox, on its way there, or in the
    /// kernel. If not, the worker has been silent up to the moment of this call.
    pub fn has_unread(&self) -> bool {
        // In this order: what leaves the kernel after the first look is on its way or in the mailbox by then.
        self.incoming.is_readable()
            || self.incoming.is_taking.load(Ordering::SeqCst)
            || self.has_next()
    }

    /// Listens no more: what the worker has sent and will send is discarded.
    pub fn deafen(&self) {
        self.listener.abort();
        self.incoming.mailbox().clear();
    }
}

/// One worker's socket and what has come of it.
#[derive(Debug)]
struct Incoming {
    stream: Stream,
    mailbox: Mutex<VecDeque<Heard>>,
    /// The loop took something out of the mailbox.
    room: Notify,
    /// A frame has left the kernel, or is about to, and is not in the mailbox yet.
    is_taking: AtomicBool,
    /// The process is gone: what it has left in the socket is all there is.
    is_ended: AtomicBool,
}

impl Incoming {
    fn mailbox(&self) -> MutexGuard<'_, VecDeque<Heard>> {
        let mailbox = self.mailbox.lock();
        mailbox.expect("no holder of this lock can panic")
    }

    /// Whether the kernel has bytes of the worker, or its end of file.
    fn is_readable(&self) -> bool {
        let mut socket = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
        poll(&mut socket, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Puts something into the mailbox, as soon as there is room. Of signs of life in a row the newest stays.
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

/// The reading side of a socket, which notes that a frame is on its way before it takes it out of the kernel.
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
        // A broken pipe is seen by the listener as well, which tells.
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
                // A panic in there is a bug that the panic's own message tells of.
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

/// How much a worker sends.
#[derive(Debug)]
struct Traffic {
    allowance: Allowance,
    /// Frames in a row that had to wait for the rate.
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
    /// Waits until the worker may have sent this frame: its socket is not read meanwhile.
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
                "it sends more than {FRAMES_PER_SECOND} frames a second, and does not stop"
            ));
        }
        tokio::time::sleep(wait).await;
        // Timers may be early by less than a frame's time; the next frame waits for it.
        let _ = self.allowance.take(environment.now(), 1);
        Ok(())
    }
}
