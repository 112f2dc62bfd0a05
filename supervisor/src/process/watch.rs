//! One worker process while it lives: the only task that signals it, and the one that reaps it.
//!
//! Signalling and reaping happen in one task, so a signal can never reach another process that got
//! the pid in between.

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use pool::Exit;
use tokio::process::Child;
use tokio::sync::mpsc;

use super::exit;
use super::stat::Stat;

/// Sends signals to one worker for as long as it exists.
#[derive(Debug, Clone)]
pub struct Signaller(mpsc::UnboundedSender<Wish>);

/// What the watching task is asked to do.
#[derive(Debug, Clone, Copy)]
enum Wish {
    /// Send a signal, which is then ours.
    Signal(Signal),
    /// See that it does not linger: it has closed its socket, so it is ending or of no use any more.
    Finish,
}

impl Signaller {
    /// Sends a signal; a process that is gone already needs none.
    pub fn send(&self, signal: Signal) {
        let _ = self.0.send(Wish::Signal(signal));
    }

    /// Ends a process that has closed its socket. Most often it is in the middle of its own exit, and
    /// then it keeps the status of that; one that lives on without a socket is killed, by us.
    pub fn finish(&self) {
        let _ = self.0.send(Wish::Finish); // Gone already is what is wanted.
    }
}

/// Watches a child; `ended` is called once, after the kernel has let go of it.
pub fn watch(mut child: Child, ended: impl FnOnce(Exit) + Send + 'static) -> Signaller {
    let (sender, mut signals) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut killed_by_us = false;
        let kills_before = out_of_memory_kills();
        let exit = loop {
            tokio::select! {
                biased;
                status = child.wait() => match status {
                    Ok(status) => {
                        let out_of_memory = out_of_memory_kills() > kills_before;
                        break exit::read(status, killed_by_us, out_of_memory);
                    }
                    // Nobody else waits for our children; should the kernel refuse all the same, the
                    // worker is beyond our reach and the books must not wait for it.
                    Err(error) => {
                        tracing::error!(%error, "cannot wait for a worker");
                        break Exit::Code(-1);
                    }
                },
                Some(wish) = signals.recv() => {
                    let Some(pid) = child.id() else { continue };
                    let signal = match wish {
                        Wish::Signal(signal) => signal,
                        // Its end is its own, and settled.
                        Wish::Finish if Stat::of(pid).is_none_or(|stat| stat.is_ending) => continue,
                        Wish::Finish => Signal::SIGKILL,
                    };
                    killed_by_us |= matches!(signal, Signal::SIGKILL | Signal::SIGTERM);
                    // ESRCH only: the process ended and the next turn of the loop reaps it.
                    let _ = signal::kill(Pid::from_raw(pid as i32), signal);
                }
            }
        };
        ended(exit);
    });
    Signaller(sender)
}

/// Out-of-memory kills that the kernel has counted in our own control group, which the workers share;
/// where it has none of its own, on this machine.
fn out_of_memory_kills() -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let count = |text: String| {
        let mut lines = text.lines();
        let found = lines.find_map(|line| line.strip_prefix("oom_kill "));
        found.and_then(|count| count.trim().parse().ok())
    };
    let groups = read("/proc/self/cgroup");
    let ours = groups
        .as_deref()
        .and_then(|text| text.trim().strip_prefix("0::"));
    ours.and_then(|group| read(&format!("/sys/fs/cgroup{group}/memory.events")))
        .and_then(count)
        .or_else(|| read("/proc/vmstat").and_then(count))
        .unwrap_or(0)
}
