//! One worker process while it lives: the only task that signals it, and the one that reaps it.
//!
//! Signalling and reaping happen in one task, so a signal can never reach another process that got
//! the pid in between. Signals go to the worker's process group: its children end with it.

use std::time::Duration;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use pool::Exit;
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::descendants;
use super::exit::{self, ExitEvidence};
use super::kernel_kills;
use super::stat::Stat;
use super::stderr::LastLines;
use crate::telemetry;

/// How long a process that has closed its socket may take to end by itself.
const LINGER_MAX: Duration = Duration::from_secs(2);
/// How long what is left of a dead worker may take: its last lines, and children that hold its stderr.
const REMAINS_MAX: Duration = Duration::from_secs(1);

/// Sends signals to one worker for as long as it exists.
#[derive(Debug, Clone)]
pub struct Signaller(mpsc::UnboundedSender<SignalRequest>);

/// What the watching task is asked to do.
#[derive(Debug, Clone, Copy)]
enum SignalRequest {
    /// Send a signal, which is then ours.
    Signal(Signal),
    /// See that it does not linger: it has closed its socket, so it is ending or of no use any more.
    Finish,
}

/// A worker's stderr: the task that reads it, and what it has read.
#[derive(Debug)]
pub struct Stderr {
    /// Ends with the pipe.
    pub follower: JoinHandle<()>,
    /// What it read.
    pub lines: LastLines,
}

impl Signaller {
    /// Sends a signal; a process that is gone already needs none.
    pub fn send(&self, signal: Signal) {
        let _ = self.0.send(SignalRequest::Signal(signal));
    }

    /// Ends a process that has closed its socket. Most often it is in the middle of its own exit, and
    /// then it keeps the status of that; one that lives on without a socket is killed, by us.
    pub fn finish(&self) {
        let _ = self.0.send(SignalRequest::Finish); // Gone already is what is wanted.
    }
}

/// Watches a child; `ended` is called once, after the kernel has let go of it and its group is killed.
pub fn watch(
    child: Child,
    label: String,
    stderr: Stderr,
    ended: impl FnOnce(Exit) + Send + 'static,
) -> Signaller {
    let (sender, wishes) = mpsc::unbounded_channel();
    kernel_kills::OWN.forget_older();
    tokio::spawn(async move {
        let exit = WatchedChild::new(child, label)
            .until_gone(wishes, stderr)
            .await;
        ended(exit);
    });
    Signaller(sender)
}

/// The child of one watching task.
struct WatchedChild {
    child: Child,
    group: Option<u32>,
    label: String,
    /// Signals that it was sent while its end was still open.
    sent: Vec<Signal>,
}

impl WatchedChild {
    fn new(child: Child, label: String) -> Self {
        Self {
            group: child.id(),
            child,
            label,
            sent: Vec::new(),
        }
    }

    async fn until_gone(
        mut self,
        wishes: mpsc::UnboundedReceiver<SignalRequest>,
        stderr: Stderr,
    ) -> Exit {
        let ended = self.attend(wishes).await;
        // Its group may live on; the group's number is not given to another while it does.
        self.kill_group(Signal::SIGKILL);
        // Where it takes longer, it goes on beside us.
        let _ = timeout(REMAINS_MAX, descendants::end(&self.label)).await;
        let reading = stderr.follower.abort_handle();
        if timeout(REMAINS_MAX, stderr.follower).await.is_err() {
            reading.abort();
        }
        match ended {
            Ok(status) => {
                let evidence = ExitEvidence {
                    sent: &self.sent,
                    kernel: &kernel_kills::OWN,
                    lines: &stderr.lines.newest(usize::MAX),
                };
                exit::read(status, &evidence)
            }
            // Nobody else waits for our children; should the kernel refuse all the same, the
            // worker is beyond our reach and the books must not wait for it.
            Err(error) => {
                telemetry::workers::not_waited(&error);
                Exit::Code(-1)
            }
        }
    }

    /// Carries out what is asked for until the process is reaped.
    async fn attend(
        &mut self,
        mut wishes: mpsc::UnboundedReceiver<SignalRequest>,
    ) -> std::io::Result<std::process::ExitStatus> {
        let mut lingers = false;
        loop {
            tokio::select! {
                biased;
                status = self.child.wait() => return status,
                Some(wish) = wishes.recv() => match wish {
                    SignalRequest::Signal(signal) => self.signal(signal),
                    SignalRequest::Finish if self.is_ending() => lingers = true,
                    SignalRequest::Finish => self.signal(Signal::SIGKILL),
                },
                () = sleep(LINGER_MAX), if lingers => {
                    lingers = false;
                    self.signal(Signal::SIGKILL);
                }
            }
        }
    }

    fn is_ending(&self) -> bool {
        self.child.id().is_none_or(Stat::all_ending)
    }

    /// Sends its group a signal; the end of a process that is ending already is not ours.
    fn signal(&mut self, signal: Signal) {
        if self.child.id().is_some() {
            if !self.is_ending() {
                self.sent.push(signal);
            }
            self.kill_group(signal);
        }
    }

    fn kill_group(&self, signal: Signal) {
        if let Some(group) = self.group {
            // ESRCH only: there is nobody left in it.
            let _ = signal::killpg(Pid::from_raw(group as i32), signal);
        }
    }
}
