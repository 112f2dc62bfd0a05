//! Reports from the daemon, asked for on a thread of their own.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use ipc_protocol::client::{Client, ClientError};
use ipc_protocol::status::StatusReport;

use crate::cli::args::ConnectOptions;
use crate::cli::daemon::connect;

/// The answer to one request.
pub type Answer = Result<StatusReport, ClientError>;

/// A thread that requests reports. It ends with the process, because a daemon that hangs never answers.
#[derive(Debug)]
pub struct Reports {
    requests: Sender<()>,
    answers: Receiver<Answer>,
    /// Readable if there is an answer.
    arrived: UnixStream,
}

impl Reports {
    /// Starts the thread.
    pub fn start(reach: &ConnectOptions) -> io::Result<Self> {
        let (requests, wanted) = mpsc::channel::<()>();
        let (sender, answers) = mpsc::channel();
        let (arrived, mut notifier) = UnixStream::pair()?;
        let reach = reach.clone();
        thread::Builder::new()
            .name("reports".into())
            .spawn(move || {
                let mut client = None;
                for () in wanted {
                    let answer = ask(&reach, &mut client);
                    if sender.send(answer).is_err() || notifier.write_all(&[0]).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self {
            requests,
            answers,
            arrived,
        })
    }

    /// Requests a report.
    pub fn request(&self) {
        // It fails only if the thread has panicked; then there is no answer either.
        let _ = self.requests.send(());
    }

    /// The next answer, if there is one.
    pub fn take(&mut self) -> Option<Answer> {
        let answer = self.answers.try_recv().ok()?;
        // One byte per answer.
        let _ = self.arrived.read(&mut [0]);
        Some(answer)
    }
}

impl AsFd for Reports {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.arrived.as_fd()
    }
}

/// Requests a report; connects first if there is no connection, or if the last one broke.
fn ask(reach: &ConnectOptions, client: &mut Option<Client>) -> Answer {
    let mut connected = match client.take() {
        Some(connected) => connected,
        None => connect::daemon(reach)?,
    };
    let report = connected.status()?;
    *client = Some(connected);
    Ok(report)
}
