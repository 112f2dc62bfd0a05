//! The kernel's counts of one process: memory, descriptors, threads, children.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::processes::descriptors;

/// Counts of one process at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessFigures {
    /// Resident memory, in KiB.
    pub resident_kib: u64,
    /// Its proportional share of the memory it maps, in KiB.
    pub share_kib: u64,
    /// Open descriptors.
    pub descriptors: usize,
    /// Those of them that lead to memory without a name.
    pub memfds: usize,
    /// Threads.
    pub threads: u64,
    /// Processes whose parent it is, those included that have ended and were not waited for.
    pub children: usize,
}

impl ProcessFigures {
    /// Counts, unless the process has ended.
    pub fn of(pid: u32) -> Option<Self> {
        let open = descriptors(pid);
        let unnamed = |to: &Path| to.to_string_lossy().starts_with("/memfd:");
        Some(Self {
            resident_kib: resident_kib(pid)?,
            share_kib: field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")?,
            descriptors: open.len(),
            memfds: open.iter().filter(|(_, to)| unnamed(to)).count(),
            threads: field(&format!("/proc/{pid}/status"), "Threads:")?,
            children: children(pid).len(),
        })
    }
}

/// Resident memory of a process, in KiB; `None` if it has ended.
pub fn resident_kib(pid: u32) -> Option<u64> {
    field(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// The processes whose parent this one is.
pub fn children(pid: u32) -> BTreeSet<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    let lists = tasks.into_iter().flatten().flatten().map(|task| {
        // Gone meanwhile: a thread that ended has no children.
        fs::read_to_string(task.path().join("children")).unwrap_or_default()
    });
    lists
        .flat_map(|list| {
            list.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// Milliseconds of a processor that a process has used.
pub fn processor_ms(pid: u32) -> Option<u64> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Its name is in brackets, and may hold blanks.
    let (_, rest) = line.rsplit_once(')')?;
    let ticks = |nth| rest.split_whitespace().nth(nth)?.parse::<u64>().ok();
    // Hundredths of a second on every Linux that this runs on.
    Some((ticks(11)? + ticks(12)?) * 10)
}

/// Bytes of all files in a folder and its folders.
pub fn folder_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => folder_bytes(&entry.path()),
            Ok(data) => data.len(),
            // Removed meanwhile.
            Err(_) => 0,
        })
        .sum()
}

/// The number after a word at the beginning of a line.
fn field(file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
