//! A daemon's traces on a machine: files, names in shared memory, descriptors.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::daemon::TestDaemon;
use crate::figures::ProcessFigures;
use crate::sandbox::Sandbox;

/// Files of a sandbox's runtime folder and named segments of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    /// Paths in the runtime folder, relative to it.
    pub runtime: BTreeSet<String>,
    /// Names in /dev/shm of owners with one of the pids that were asked for.
    pub segments: BTreeSet<String>,
}

impl Sandbox {
    /// Looks at the runtime folder, and at the segments of the supervisors with these pids.
    pub fn census(&self, owners: &[u32]) -> Census {
        let mut runtime = BTreeSet::new();
        list(&self.runtime_dir(), "", &mut runtime);
        Census {
            runtime,
            segments: segments_of(owners),
        }
    }
}

fn list(folder: &Path, prefix: &str, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(&entry.path(), &format!("{name}/"), found);
        }
        found.insert(name);
    }
}

/// Names of segments whose owner has one of these pids.
pub fn segments_of(owners: &[u32]) -> BTreeSet<String> {
    fs::read_dir("/dev/shm")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| {
            name.strip_prefix("imagepool-")
                .and_then(|label| label.split_once('-'))
                .and_then(|(pid, _)| pid.parse().ok())
                .is_some_and(|pid: u32| owners.contains(&pid))
        })
        .collect()
}

/// Everything that a daemon at rest holds on its machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullCensus {
    /// Files of its runtime folder and its segments.
    pub traces: Census,
    /// Its own descriptors, threads, unnamed memory and children.
    pub daemon: ProcessFigures,
    /// Processes in its sandbox, itself among them.
    pub processes: usize,
    /// Control groups below its own, of all controllers.
    pub control_groups: usize,
    /// MiB that workers have reserved.
    pub booked_mb: u64,
}

impl FullCensus {
    /// Counts.
    pub fn of(daemon: &TestDaemon) -> Self {
        let booked = daemon.status().memory.iter().map(|it| it.reserved_mb).sum();
        Self {
            traces: daemon.sandbox.census(&[daemon.pid()]),
            daemon: ProcessFigures::of(daemon.pid()).expect("it lives"),
            processes: daemon.sandbox.servants().len(),
            control_groups: groups_below(daemon.pid()),
            booked_mb: booked,
        }
    }

    /// Whether this is at most `before`, with `gained_kib` more resident memory and `threads` more threads.
    ///
    /// The runtime keeps threads for short work on files for a while, and measuring workers keeps some of them busy.
    pub fn is_within(&self, before: &Self, gained_kib: u64, threads: u64) -> bool {
        let (now, then) = (&self.daemon, &before.daemon);
        self.traces == before.traces
            && self.processes == before.processes
            && self.control_groups <= before.control_groups
            && self.booked_mb == before.booked_mb
            && now.memfds == then.memfds
            && now.children == then.children
            && now.descriptors <= then.descriptors
            && now.threads <= then.threads + threads
            && now.resident_kib <= then.resident_kib + gained_kib
    }
}

/// Folders below the control groups of a process.
fn groups_below(pid: u32) -> usize {
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let places = own.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        Some(Path::new("/sys/fs/cgroup").join(controllers).join(path))
    });
    let folders = places.flat_map(|place| fs::read_dir(place).into_iter().flatten().flatten());
    folders
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .count()
}
