//! Processes as /proc shows them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::sandbox::Sandbox;

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its program and arguments.
    pub arguments: Vec<String>,
}

impl Sandbox {
    /// Returns every process that was started in this sandbox and has not ended, whatever its parent is now.
    pub fn processes(&self) -> Vec<Process> {
        let home = self.home();
        let mark = [b"TMPDIR=", home.as_os_str().as_bytes()].concat();
        all_pids()
            .filter(|pid| {
                // Gone meanwhile, or somebody else's: no process of ours.
                fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
                    environment.split(|byte| *byte == 0).any(|it| it == mark)
                })
            })
            .map(|pid| Process {
                pid,
                arguments: arguments(pid),
            })
            .collect()
    }

    /// The workers among them.
    pub fn workers(&self) -> Vec<Process> {
        let program = self.binaries().worker().display().to_string();
        let mut processes = self.processes();
        processes.retain(|process| process.arguments.first() == Some(&program));
        processes
    }

    /// Returns every process except commands: daemons, workers, and processes between the two.
    pub fn servants(&self) -> Vec<Process> {
        let command = self.binaries().imagepool().display().to_string();
        let mut processes = self.processes();
        processes.retain(|process| process.arguments.first() != Some(&command));
        processes
    }
}

fn all_pids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .expect("Linux has /proc")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn arguments(pid: u32) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// Sends a signal to a process that the test knows to be its own.
pub fn signal(pid: u32, signal: Signal) {
    // ESRCH: it has ended already.
    let _ = signal::kill(Pid::from_raw(pid as i32), signal);
}

/// Where a process's descriptors lead, by number.
pub fn descriptors(pid: u32) -> Vec<(u32, PathBuf)> {
    let mut found: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, fs::read_link(entry.path()).ok()?))
        })
        .collect();
    found.sort();
    found
}

/// The names in a process's environment.
pub fn environment_names(pid: u32) -> BTreeSet<String> {
    fs::read(format!("/proc/{pid}/environ"))
        .unwrap_or_default()
        .split(|byte| *byte == 0)
        .filter_map(|variable| variable.split(|byte| *byte == b'=').next())
        .filter(|name| !name.is_empty())
        .map(|name| OsStr::from_bytes(name).to_string_lossy().into_owned())
        .collect()
}
