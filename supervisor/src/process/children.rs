//! The child processes of this process: those that it started, and those that it adopted.
//!
//! The daemon is the subreaper of its descendants (prctl(2)): a process whose parent has ended becomes its child,
//! whatever that process did to its group, session and environment.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use nix::sys::prctl;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::stat::Stat;

/// Processes that are kept at least before those that have ended are forgotten.
const KEPT_MIN: usize = 64;

/// The processes that are not adopted.
static STARTED: Mutex<StartedProcesses> = Mutex::new(StartedProcesses {
    start_times: BTreeMap::new(),
    forget_from: KEPT_MIN,
});
/// Descendants without a parent become children of this process.
static ADOPTS: AtomicBool = AtomicBool::new(false);

#[derive(Debug)]
struct StartedProcesses {
    /// The start time by pid; zero if it is not known.
    start_times: BTreeMap<u32, u64>,
    /// Those that have ended are forgotten at this number.
    forget_from: usize,
}

impl StartedProcesses {
    fn note(&mut self, pid: u32) {
        let start_time = Stat::of(pid).map_or(0, |stat| stat.start_time);
        self.start_times.insert(pid, start_time);
        if self.start_times.len() >= self.forget_from {
            let exists = |pid: &u32, start_time: &mut u64| {
                Stat::of(*pid).is_some_and(|stat| stat.start_time == *start_time)
            };
            self.start_times.retain(exists);
            self.forget_from = KEPT_MIN.max(2 * self.start_times.len());
        }
    }

    fn includes(&self, pid: u32, start_time: u64) -> bool {
        let known = self.start_times.get(&pid);
        known.is_some_and(|known| *known == start_time || *known == 0)
    }
}

/// A process that was started by another one, which has ended.
#[derive(Debug, Clone, Copy)]
pub struct AdoptedProcess {
    pub pid: Pid,
    pub stat: Stat,
}

/// Adopts descendants without a parent from now on. Does nothing where the kernel does not list the children of a process.
pub fn adopt() {
    let Some(before) = listed() else {
        return;
    };
    // Those that the program before this one in the same process has started are none of ours.
    let mut started = started();
    before.into_iter().for_each(|pid| started.note(pid));
    let adopts = prctl::set_child_subreaper(true).is_ok();
    ADOPTS.store(adopts, Ordering::Relaxed);
}

/// Starts a process with `spawn`.
///
/// # Errors
/// That of `spawn`.
pub fn start<C>(
    spawn: impl FnOnce() -> io::Result<C>,
    pid: impl FnOnce(&C) -> Option<u32>,
) -> io::Result<C> {
    // Held meanwhile, so that it is never taken for an adopted one.
    let mut started = started();
    let child = spawn()?;
    if let Some(pid) = pid(&child) {
        started.note(pid);
    }
    Ok(child)
}

/// The adopted processes; `None` if this process adopts none.
pub fn adopted() -> Option<Vec<AdoptedProcess>> {
    if !ADOPTS.load(Ordering::Relaxed) {
        return None;
    }
    let started = started();
    let children = listed()?.into_iter();
    let adopted = children.filter_map(|pid| {
        let stat = Stat::of(pid)?;
        let is_started = started.includes(pid, stat.start_time);
        let pid = Pid::from_raw(i32::try_from(pid).ok()?);
        (!is_started).then_some(AdoptedProcess { pid, stat })
    });
    Some(adopted.collect())
}

/// Reaps the adopted processes that have ended.
pub fn reap() {
    let adopted = adopted().into_iter().flatten();
    for ended in adopted.filter(|process| process.stat.is_dead) {
        // It may have been reaped meanwhile.
        let _ = waitpid(ended.pid, Some(WaitPidFlag::WNOHANG));
    }
}

fn started() -> MutexGuard<'static, StartedProcesses> {
    STARTED.lock().expect("no holder of this lock can panic")
}

/// The children of all threads of this process; `None` if the kernel does not list them.
fn listed() -> Option<Vec<u32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir("/proc/self/task").ok()?.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(text) => children.extend(text.split_whitespace().flat_map(str::parse::<u32>)),
            // The thread has ended.
            Err(_) if !thread.path().exists() => {}
            Err(_) => return None,
        }
    }
    Some(children)
}
