//! Kills the child processes that a dead worker has left.
//!
//! Signals reach a worker's process group. A child that has left the group is found by a mark in its environment,
//! inherited from the worker. A child that has also removed the mark is not found.

use std::fs;
use std::thread;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tokio::sync::oneshot;

use crate::telemetry;

/// The environment variable with a worker's label.
pub const MARK: &str = "IMAGEPOOL_WORKER";
/// Searches for marked processes; a process may fork during a search, so one is not enough.
const ROUNDS_MAX: usize = 4;

/// Kills all processes that the worker with this label has left, in a separate thread. Sends when none is found
/// any more.
pub fn end(label: &str) -> oneshot::Receiver<()> {
    let (told, answer) = oneshot::channel();
    let mark = format!("{MARK}={label}");
    let sweep = move || {
        for _ in 0..ROUNDS_MAX {
            let left = marked(&mark);
            for pid in &left {
                telemetry::workers::left_behind(pid.as_raw());
                // ESRCH: it has exited by itself.
                let _ = signal::kill(*pid, Signal::SIGKILL);
            }
            if left.is_empty() {
                break;
            }
        }
        let _ = told.send(()); // Fails only if the caller no longer waits.
    };
    // If no thread can be started, the sender is dropped, which ends the wait too.
    let _ = thread::Builder::new()
        .name("descendants".into())
        .spawn(sweep);
    answer
}

/// Returns the processes that were started with `mark` in their environment. A dead process has no environment,
/// and that of another user's process cannot be read.
fn marked(mark: &str) -> Vec<Pid> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let has_mark = |pid: &i32| {
        let variables = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut variables = variables.split(|byte| *byte == 0);
        variables.any(|variable| variable == mark.as_bytes())
    };
    pids.filter(has_mark).map(Pid::from_raw).collect()
}
