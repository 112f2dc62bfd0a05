//! A client's connection, which is made again when the daemon ends without an answer.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use interprocess::local_socket::Stream;
use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt::ReceiveTimeout};
use nix::sys::time::TimeVal;

use crate::client_error::ClientError;
use crate::connection::{self, ConnectionError};
use crate::ids::JobId;
use crate::messages::client::ToPool;

/// How long a client waits for the daemon after its connection ended without an answer, unless it chooses otherwise.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long a client tries again where a daemon ended before it greeted.
const GREETING_PATIENCE: Duration = Duration::from_secs(5);
/// Pause before the first try to connect again; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// Where a client's daemon is.
#[derive(Debug, Clone)]
pub(crate) enum DaemonPlace {
    /// At this socket.
    At(PathBuf),
    /// At the first of the usual sockets that answers.
    Usual,
}

/// The present connection, shared with threads that cancel.
#[derive(Debug)]
pub(crate) struct SharedConnection {
    present: Mutex<PresentConnection>,
    changed: Condvar,
}

#[derive(Debug)]
struct PresentConnection {
    stream: Arc<Stream>,
    /// The jobs of the request in progress: the first one, and how many.
    jobs: Option<(JobId, u32)>,
    /// Its user wants nothing any more, so it is not made again.
    given_up: bool,
}

impl SharedConnection {
    pub fn new(stream: Arc<Stream>) -> Self {
        Self {
            present: Mutex::new(PresentConnection {
                stream,
                jobs: None,
                given_up: false,
            }),
            changed: Condvar::new(),
        }
    }

    fn present(&self) -> MutexGuard<'_, PresentConnection> {
        self.present
            .lock()
            .expect("no holder of this lock can panic")
    }

    /// Notes the jobs of the request in progress.
    pub fn note_jobs(&self, first: JobId, count: u32) {
        self.present().jobs = Some((first, count));
    }

    /// Replaces the connection.
    pub fn replace(&self, stream: Arc<Stream>) {
        let mut present = self.present();
        (present.stream, present.jobs) = (stream, None);
    }

    pub fn is_given_up(&self) -> bool {
        self.present().given_up
    }

    /// Waits for a while; returns false if its user gives up meanwhile.
    pub fn pause(&self, pause: Duration) -> bool {
        let waited = self
            .changed
            .wait_timeout_while(self.present(), pause, |present| !present.given_up);
        let (present, _) = waited.expect("no holder of this lock can panic");
        !present.given_up
    }

    fn give_up(&self) -> Arc<Stream> {
        let mut present = self.present();
        present.given_up = true;
        self.changed.notify_all();
        Arc::clone(&present.stream)
    }
}

/// Cancels jobs on a connection that another thread reads from.
#[derive(Debug, Clone)]
pub struct Canceller(pub(crate) Arc<SharedConnection>);

impl Canceller {
    /// Asks the daemon to cancel a job. The job's answer arrives with the updates.
    pub fn cancel(&self, job: JobId) -> Result<(), ClientError> {
        let stream = Arc::clone(&self.0.present().stream);
        Ok(connection::write(&mut &*stream, &ToPool::Cancel { job })?)
    }

    /// Asks the daemon to cancel all jobs of the request in progress, whose answers arrive with the updates. If the
    /// daemon ends before them, the request is not sent again.
    pub fn cancel_all(&self) -> Result<(), ClientError> {
        self.0.give_up();
        let jobs = self.0.present().jobs;
        let (first, count) = jobs.map_or((0, 0), |(first, count)| (first.0, count));
        (first..)
            .take(count as usize)
            .try_for_each(|job| self.cancel(JobId(job)))
    }

    /// Ends the connection: the thread that reads from it gets an error.
    pub fn disconnect(&self) -> Result<(), ClientError> {
        let stream = self.0.give_up();
        let Stream::UdSocket(socket) = &*stream;
        shutdown(socket.as_fd().as_raw_fd(), Shutdown::Both).map_err(io::Error::from)?;
        Ok(())
    }
}

/// Whether the connection ended as it does if the daemon is gone.
pub(crate) fn is_lost(error: &ClientError) -> bool {
    match error {
        ClientError::Broken(ConnectionError::Closed | ConnectionError::Io(_)) => true,
        ClientError::Broken(ConnectionError::Frame(_))
        | ClientError::NoDaemon { .. }
        | ClientError::NoDaemonAnywhere { .. }
        | ClientError::NotAdmitted { .. }
        | ClientError::NotTrusted { .. }
        | ClientError::OtherVersion { .. }
        | ClientError::Refused(_)
        | ClientError::Unexpected(_)
        | ClientError::Lost { .. }
        | ClientError::Unanswered => false,
    }
}

/// Whether another try may reach a daemon that starts meanwhile.
fn may_come(error: &ClientError) -> bool {
    is_lost(error)
        || matches!(
            error,
            ClientError::NoDaemon { .. } | ClientError::NoDaemonAnywhere { .. }
        )
}

/// Connects. If the daemon ends before it greets, tries again for a while: such a daemon is probably being restarted.
///
/// # Errors
/// Those of `connect`.
pub(crate) fn greeted<T>(
    mut connect: impl FnMut() -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let lost = match connect() {
        Err(error) if is_lost(&error) => error,
        other => return other,
    };
    let pause = |pause| {
        thread::park_timeout(pause);
        true
    };
    match until_connected(pause, GREETING_PATIENCE, |_| connect()) {
        Err(ClientError::Lost { .. }) => Err(lost),
        other => other,
    }
}

/// Tries `connect` again and again for `patience`. It gets the time that is left for it. Before each try comes a `wait`,
/// which is false if its user gives up.
///
/// # Errors
/// `Lost` if no daemon answered in time or its user gave up; any error that another try would not change.
pub(crate) fn until_connected<T>(
    wait: impl Fn(Duration) -> bool,
    patience: Duration,
    mut connect: impl FnMut(Duration) -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let mut left = patience;
    let mut pause = PAUSE_MIN;
    loop {
        // A pause that is cut short belongs to a user who gave up.
        if left.is_zero() || !wait(pause.min(left)) {
            return Err(ClientError::Lost { after: patience });
        }
        left = left.saturating_sub(pause);
        pause = (pause * 2).min(PAUSE_MAX);
        match connect(left) {
            Err(error) if may_come(&error) => {}
            other => return other,
        }
    }
}

/// Bounds the time that a read may wait for the daemon; `None` removes the bound.
pub(crate) fn bound_reads(stream: &Stream, most: Option<Duration>) -> io::Result<()> {
    let Stream::UdSocket(socket) = stream;
    // Zero means no bound.
    let most = most.map_or(Duration::ZERO, |most| most.max(PAUSE_MIN));
    let seconds = i64::try_from(most.as_secs()).unwrap_or(i64::MAX);
    let micros = i64::from(most.subsec_micros());
    Ok(setsockopt(
        socket,
        ReceiveTimeout,
        &TimeVal::new(seconds, micros),
    )?)
}
