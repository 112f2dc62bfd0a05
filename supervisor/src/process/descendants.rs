//! Kills the child processes that a dead worker has left.
//!
//! Signals reach a worker's process group. A child that has left the group becomes a child of the daemon when its parent
//! ends: it is the worker's if it has its mark in the environment, or no mark at all and is younger. Where the kernel does
//! not list the children of a process, all processes with the mark are searched for, and one that has removed it is not
//! found.

use std::fs;
use std::thread;

use nix::sys::signal::{self, Signal};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use tokio::sync::oneshot;

use super::children::{self, AdoptedProcess};
use crate::telemetry;

/// The environment variable with a worker's label.
pub const MARK: &str = "IMAGEPOOL_WORKER";
/// The environment variable of the programs that operators let us run: what these leave behind may stay.
pub const HOOK_MARK: &str = "IMAGEPOOL_HOOK";
/// Searches; a process may fork during a search, and the children of a killed one are found by the next.
const ROUNDS_MAX: usize = 16;

/// Kills all processes that a worker has left, in a separate thread: it has this label, and was started at this time, in
/// clock ticks since boot. Sends when none is found any more.
pub fn end(label: &str, start_time: u64) -> oneshot::Receiver<()> {
    let (told, answer) = oneshot::channel();
    let mark = format!("{MARK}={label}");
    let sweep = move || {
        for _ in 0..ROUNDS_MAX {
            let adopted = children::adopted();
            let is_adopted = adopted.is_some();
            let left = match adopted {
                Some(adopted) => left_by(adopted, &mark, start_time),
                None => marked(&mark),
            };
            for pid in &left {
                telemetry::workers::left_behind(pid.as_raw());
                // ESRCH: it has exited by itself.
                let killed = signal::kill(*pid, Signal::SIGKILL).is_ok();
                if killed && is_adopted {
                    // Its own children are ours once it has ended. It may have been reaped meanwhile.
                    let _ = waitpid(*pid, None);
                }
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

/// The adopted processes that are left of the worker with this mark, which was started at `start_time`.
fn left_by(adopted: Vec<AdoptedProcess>, mark: &str, start_time: u64) -> Vec<Pid> {
    let is_left = |process: &AdoptedProcess| {
        let environment = fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
        let mut marks = environment.split(|byte| *byte == 0).filter(|variable| {
            let name = variable.split(|byte| *byte == b'=').next();
            name == Some(MARK.as_bytes()) || name == Some(HOOK_MARK.as_bytes())
        });
        match marks.next() {
            Some(found) => found == mark.as_bytes(),
            None => process.stat.start_time >= start_time,
        }
    };
    let alive = adopted.into_iter().filter(|process| !process.stat.is_dead);
    alive.filter(is_left).map(|process| process.pid).collect()
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
