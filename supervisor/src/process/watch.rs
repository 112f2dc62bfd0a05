//! Watches one worker process: sends its signals and reaps it, in a single task.
//!
//! The same task signals and reaps, so a signal cannot reach another process that has got the same pid meanwhile.
//! Signals go to the worker's process group, so its children get them too.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use ipc_protocol::units::Mebibytes;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use pool::Exit;
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::descendants;
use super::exit::{self, ExitEvidence, KernelEvidence};
use super::kernel_kills;
use super::memory_limit::MemoryLimit;
use super::stat::Stat;
use super::stderr::LastLines;
use crate::telemetry;

/// How long a process that has closed its socket may take to exit.
const LINGER_MAX: Duration = Duration::from_secs(2);
/// How long to wait for the last lines of a dead worker, and for children that keep its stderr open.
const REMAINS_MAX: Duration = Duration::from_secs(1);

/// Sends signals to one worker while it exists.
#[derive(Debug, Clone)]
pub struct Signaller(mpsc::UnboundedSender<SignalRequest>);

/// A request to the watching task.
#[derive(Debug, Clone, Copy)]
enum SignalRequest {
    /// Send a signal and remember that it was ours.
    Signal(Signal),
    /// Send a signal for an operator: a death by it counts as one from outside.
    OperatorSignal(Signal),
    /// Make sure that it exits: it has closed its socket, so it is exiting or useless.
    Finish,
    /// Raise the limit of its memory to this reservation on the host.
    RaiseLimit(Mebibytes),
}

/// A worker's stderr: the task that reads it, and the lines that it has read.
#[derive(Debug)]
pub struct Stderr {
    /// The task; it ends when the pipe closes.
    pub follower: JoinHandle<()>,
    pub lines: LastLines,
}

impl Signaller {
    /// Sends a signal, if the process still exists.
    pub fn send(&self, signal: Signal) {
        let _ = self.0.send(SignalRequest::Signal(signal));
    }

    /// Sends an operator's signal, if the process still exists.
    pub fn send_for_operator(&self, signal: Signal) {
        let _ = self.0.send(SignalRequest::OperatorSignal(signal));
    }

    /// Raises the limit of its memory to a reservation on the host that may have grown.
    pub fn raise_limit(&self, reserved: Mebibytes) {
        let _ = self.0.send(SignalRequest::RaiseLimit(reserved));
    }

    /// Ends a process that has closed its socket. Usually it is already exiting and keeps its own exit status; if it
    /// does not exit within `LINGER_MAX`, it is killed.
    pub fn finish(&self) {
        let _ = self.0.send(SignalRequest::Finish); // Fails only if it has exited.
    }
}

/// Watches a child process. Calls `ended` once, after it was reaped and its process group was killed.
pub fn watch(
    child: Child,
    label: String,
    stderr: Stderr,
    limit: MemoryLimit,
    ended: impl FnOnce(Exit) + Send + 'static,
) -> Signaller {
    let (sender, wishes) = mpsc::unbounded_channel();
    kernel_kills::OWN.forget_older();
    tokio::spawn(async move {
        let exit = WatchedChild::new(child, label, limit)
            .until_gone(wishes, stderr)
            .await;
        ended(exit);
    });
    Signaller(sender)
}

/// The child process of a watching task.
struct WatchedChild {
    child: Child,
    group: Option<u32>,
    /// In clock ticks since boot.
    start_time: u64,
    label: String,
    limit: MemoryLimit,
    /// Signals that we sent before it began to exit.
    sent: Vec<Signal>,
    /// Those that operators sent.
    of_operators: Vec<Signal>,
}

impl WatchedChild {
    fn new(child: Child, label: String, limit: MemoryLimit) -> Self {
        Self {
            group: child.id(),
            start_time: child
                .id()
                .and_then(Stat::of)
                .map_or(0, |stat| stat.start_time),
            child,
            label,
            limit,
            sent: Vec::new(),
            of_operators: Vec::new(),
        }
    }

    async fn until_gone(
        mut self,
        wishes: mpsc::UnboundedReceiver<SignalRequest>,
        stderr: Stderr,
    ) -> Exit {
        let ended = self.attend(wishes).await;
        // Its group may still exist; until it is gone, its number is not reused.
        self.kill_group(Signal::SIGKILL);
        if let Some(group) = self.limit.group().cloned() {
            // Beside us: the kernel may take its time.
            tokio::task::spawn_blocking(move || group.kill());
        }
        // If it takes longer, it continues in the background.
        let _ = timeout(REMAINS_MAX, descendants::end(&self.label, self.start_time)).await;
        let reading = stderr.follower.abort_handle();
        if timeout(REMAINS_MAX, stderr.follower).await.is_err() {
            reading.abort();
        }
        let exit = self.read(ended, &stderr.lines);
        if let Some(group) = self.limit.group().cloned() {
            // The kernel may take its time.
            tokio::task::spawn_blocking(move || group.remove());
        }
        exit
    }

    /// Reads how it ended, before its control group is removed.
    fn read(&self, ended: io::Result<ExitStatus>, lines: &LastLines) -> Exit {
        match ended {
            Ok(status) => {
                let kernel = match self.limit.group() {
                    Some(group) => KernelEvidence::Own(group),
                    None => KernelEvidence::Shared(&kernel_kills::OWN),
                };
                let evidence = ExitEvidence {
                    sent: &self.sent,
                    of_operators: &self.of_operators,
                    kernel,
                    lines: &lines.newest(usize::MAX),
                };
                exit::read(status, &evidence)
            }
            // Nothing else waits for our children. If the kernel refuses anyway, the worker is out of
            // reach, and its reservation must not wait for it.
            Err(error) => {
                telemetry::workers::not_waited(&error);
                Exit::Code(-1)
            }
        }
    }

    /// Handles requests until the process is reaped.
    async fn attend(
        &mut self,
        mut wishes: mpsc::UnboundedReceiver<SignalRequest>,
    ) -> io::Result<ExitStatus> {
        let mut lingers = false;
        loop {
            tokio::select! {
                biased;
                status = self.child.wait() => return status,
                Some(wish) = wishes.recv() => match wish {
                    SignalRequest::Signal(signal) => self.signal(signal),
                    SignalRequest::OperatorSignal(signal) => self.signal_for_operator(signal),
                    SignalRequest::Finish if self.is_ending() => lingers = true,
                    SignalRequest::Finish => self.signal(Signal::SIGKILL),
                    SignalRequest::RaiseLimit(reserved) => self.raise_limit(reserved),
                },
                () = sleep(LINGER_MAX), if lingers => {
                    lingers = false;
                    self.signal(Signal::SIGKILL);
                }
            }
        }
    }

    fn raise_limit(&mut self, reserved: Mebibytes) {
        if let Some(pid) = self.child.id()
            && !self.is_ending()
        {
            self.limit.raise(pid, reserved);
        }
    }

    fn is_ending(&self) -> bool {
        self.child.id().is_none_or(Stat::all_ending)
    }

    /// Signals its group. A signal to a process that is already exiting is not recorded as ours.
    fn signal(&mut self, signal: Signal) {
        if self.child.id().is_some() {
            if !self.is_ending() {
                self.sent.push(signal);
            }
            self.kill_group(signal);
        }
    }

    /// Signals its group for an operator.
    fn signal_for_operator(&mut self, signal: Signal) {
        if self.child.id().is_some() {
            if !self.is_ending() && !self.of_operators.contains(&signal) {
                self.of_operators.push(signal);
            }
            self.kill_group(signal);
        }
    }

    fn kill_group(&self, signal: Signal) {
        if let Some(group) = self.group {
            // Fails only with ESRCH: the group is empty.
            let _ = signal::killpg(Pid::from_raw(group as i32), signal);
        }
    }
}
