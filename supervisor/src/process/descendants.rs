//! What a dead worker's own children become: nothing that may stay.
//!
//! Signals reach a worker's process group. A child that has left the group is found by the mark that workers
//! have in their environment and hand down; one that has removed the mark as well is beyond this file.

use std::fs;
use std::thread;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tokio::sync::oneshot;

use crate::telemetry;

/// The environment variable that holds a worker's label.
pub const MARK: &str = "IMAGEPOOL_WORKER";
/// Rounds of looking: a process may have forked while it was looked for.
const ROUNDS_MAX: usize = 4;

/// Ends everything that the worker with this label has left behind. Works beside the caller; answers when
/// nothing more is found.
pub fn end(label: &str) -> oneshot::Receiver<()> {
    let (told, answer) = oneshot::channel();
    let mark = format!("{MARK}={label}");
    let sweep = move || {
        for _ in 0..ROUNDS_MAX {
            let left = marked(&mark);
            for pid in &left {
                telemetry::workers::left_behind(pid.as_raw());
                // ESRCH: it ended by itself.
                let _ = signal::kill(*pid, Signal::SIGKILL);
            }
            if left.is_empty() {
                break;
            }
        }
        let _ = told.send(()); // Whoever no longer waits needs no answer.
    };
    // Without a thread the sender is dropped, which is an answer too.
    let _ = thread::Builder::new()
        .name("descendants".into())
        .spawn(sweep);
    answer
}

/// The processes that began with `mark` in their environment. One that is dead has none any more, and one of
/// another user cannot be read.
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
