//! A control group for each worker, so that a worker that leaks memory ends alone.
//!
//! ```text
//!  the daemon's group, delegated to it
//!   ├─ supervisor         the daemon, on version 2: there only leaves have processes
//!   └─ worker-LABEL       one worker and its children
//! ```
//! A worker that keeps its promise stays below its limits: the reservation covers the peak of its load and of its job.
//! The margin covers memory that the kernel counts and that the pool does not plan: page tables, buffers of pipes and
//! sockets, caches of the allocator, children. Pages of files that are in memory for speed are taken back before
//! anything is killed.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use ipc_protocol::units::Mebibytes;
use nix::sys::signal::Signal;
use pool::KilledBy;

use super::identity::Identity;
use crate::cgroup::MemoryGroup;
use crate::config::file::ControlGroups;
use crate::telemetry;

/// The group of the daemon itself.
const LEAF: &str = "supervisor";
/// The beginning of the name of a worker's group.
const PREFIX: &str = "worker-";
/// Margin of the soft limit: a quarter of the reservation, and this.
const SOFT_MB: u64 = 256;
/// Margin of the hard limit: half of the reservation, and this.
const HARD_MB: u64 = 512;

/// The group in which those of workers are made.
#[derive(Debug)]
pub struct WorkerGroups {
    base: MemoryGroup,
}

/// Whether workers have groups of their own.
#[derive(Debug)]
pub enum GroupsReached {
    /// The settings do not want them.
    Off,
    /// They cannot be made, for this reason.
    Impossible(String),
    /// They are made in this group.
    Made(WorkerGroups),
}

impl GroupsReached {
    /// The word in the status.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Impossible(_) => "none",
            Self::Made(groups) => groups.base.version(),
        }
    }

    /// The folder of the groups, or the reason why they cannot be made.
    pub fn detail(&self) -> String {
        match self {
            Self::Off => String::new(),
            Self::Impossible(reason) => reason.clone(),
            Self::Made(groups) => groups.base.folder().display().to_string(),
        }
    }
}

/// Prepares this process's group for those of workers, and removes the groups that killed daemons left there.
pub fn prepare(wanted: ControlGroups) -> GroupsReached {
    if wanted == ControlGroups::Off {
        return GroupsReached::Off;
    }
    let own = MemoryGroup::own().ok_or("the kernel reports no control group for memory".to_owned());
    let alone = wanted == ControlGroups::Auto;
    match own.and_then(|own| WorkerGroups::make(&own, Identity::own().pid, alone)) {
        Ok(groups) => {
            groups.sweep();
            let folder = groups.base.folder().display();
            telemetry::daemon::worker_groups(groups.base.version(), &folder);
            GroupsReached::Made(groups)
        }
        Err(reason) => {
            telemetry::daemon::no_worker_groups(&reason, wanted == ControlGroups::On);
            GroupsReached::Impossible(reason)
        }
    }
}

impl WorkerGroups {
    /// Prepares the group `own` of the process `pid`. Where groups of version 1 are used, other processes may be in it
    /// unless it has to be `alone`.
    ///
    /// # Errors
    /// The reason why no groups can be made.
    fn make(own: &MemoryGroup, pid: u32, alone: bool) -> Result<Self, String> {
        let failed = |at: &MemoryGroup, error: io::Error| {
            format!(
                "{} cannot have child groups: {error}",
                at.folder().display()
            )
        };
        let is_v2 = own.version() == "v2";
        let is_leaf = is_v2 && own.folder().ends_with(LEAF);
        let base = match own.parent() {
            // A service manager, or an earlier daemon, has put this process into the leaf.
            Some(parent) if is_leaf => parent,
            Some(_) | None => own.clone(),
        };
        let processes = base.processes().map_err(|error| failed(&base, error))?;
        let others = processes.iter().filter(|other| **other != pid).count();
        if others > 0 && (alone || is_v2) {
            let folder = base.folder().display();
            return Err(format!("{others} other processes are in {folder}"));
        }
        if is_v2 && !is_leaf {
            let leaf = base.child(LEAF).map_err(|error| failed(&base, error))?;
            let moved = leaf.add(pid).and_then(|()| base.govern_children());
            if let Err(error) = moved {
                // Fails only if it was not moved.
                let _ = base.add(pid);
                let _ = leaf.remove();
                return Err(failed(&base, error));
            }
        } else {
            base.govern_children()
                .map_err(|error| failed(&base, error))?;
        }
        // Whether a child can be made, before a worker needs it.
        let trial = base.child(&format!("{PREFIX}{}-0", Identity::own()));
        let trial = trial.and_then(|trial| trial.remove());
        trial.map_err(|error| failed(&base, error))?;
        Ok(Self { base })
    }

    /// Removes the groups of workers whose daemon is gone.
    fn sweep(&self) {
        let is_left = |name: &String| {
            let label = name.strip_prefix(PREFIX);
            let owner = label
                .and_then(|label| label.rsplit_once('-'))
                .map(|(owner, _)| owner);
            let owner = owner.and_then(|owner| owner.parse::<Identity>().ok());
            owner.is_some_and(|owner| !owner.is_alive())
        };
        for name in self.base.children().filter(is_left) {
            // Its last processes may not have exited yet; the next daemon removes it.
            let _ = self.base.child(&name).and_then(|left| left.remove());
        }
    }

    /// Makes the group of a worker with this label and reservation on the host, and puts its process in.
    ///
    /// # Errors
    /// The kernel refuses; there is no group then.
    pub fn put(&self, label: &str, pid: u32, reserved: Mebibytes) -> io::Result<WorkerGroup> {
        let group = self.base.child(&format!("{PREFIX}{label}"))?;
        let (soft, hard) = limits(reserved);
        let made = group.limit(soft, hard).and_then(|()| group.add(pid));
        if let Err(error) = made {
            // It is empty.
            let _ = group.remove();
            return Err(error);
        }
        Ok(WorkerGroup {
            group,
            reserved_mb: AtomicU64::new(reserved.0),
        })
    }
}

/// The soft and the hard limit in bytes for a reservation on the host.
fn limits(reserved: Mebibytes) -> (u64, u64) {
    let Mebibytes(mb) = reserved;
    let soft = mb.saturating_add(mb / 4).saturating_add(SOFT_MB);
    (soft.saturating_mul(1 << 20), hard_limit(reserved))
}

/// The hard limit in bytes for a reservation on the host.
pub(super) fn hard_limit(reserved: Mebibytes) -> u64 {
    let Mebibytes(mb) = reserved;
    let hard = mb.saturating_add(mb / 2).saturating_add(HARD_MB);
    hard.saturating_mul(1 << 20)
}

/// The control group of one worker.
#[derive(Debug)]
pub struct WorkerGroup {
    group: MemoryGroup,
    /// The largest reservation that its limits were set for.
    reserved_mb: AtomicU64,
}

impl WorkerGroup {
    /// Raises the limits to a larger reservation. They are never lowered: memory that was used may still be held.
    pub fn raise(&self, reserved: Mebibytes) {
        if self.reserved_mb.fetch_max(reserved.0, Ordering::Relaxed) < reserved.0 {
            let (soft, hard) = limits(reserved);
            if let Err(error) = self.group.limit(soft, hard) {
                telemetry::workers::group_failed(&self.group.folder().display(), &error);
            }
        }
    }

    /// The kernel's part in a death by `signal`, as this group counted it.
    pub fn explain(&self, signal: i32) -> Option<KilledBy> {
        let killed = signal == Signal::SIGKILL as i32
            && self
                .group
                .out_of_memory_kills()
                .is_some_and(|kills| kills > 0);
        let own = || self.group.limit_hits().is_some_and(|hits| hits > 0);
        killed.then(|| match own() {
            true => KilledBy::OwnLimit,
            false => KilledBy::KernelOom,
        })
    }

    /// Kills every process that is left in it.
    pub fn kill(&self) {
        // It is empty, or its processes are found as descendants.
        let _ = self.group.kill();
    }

    /// Removes the group of a dead worker.
    pub fn remove(&self) {
        if let Err(error) = self.group.remove() {
            telemetry::workers::group_failed(&self.group.folder().display(), &error);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The pid of the daemon in these tests.
    const DAEMON: u32 = 77;

    /// A stand-in for the hierarchies, with the group `/unit` and these processes in it.
    fn mounted(groups: &str, file: &str, processes: &str) -> (tempfile::TempDir, MemoryGroup) {
        let mount = tempfile::tempdir().expect("a folder");
        let unit = mount.path().join(file);
        let folder = unit.parent().expect("inside the mount");
        fs::create_dir_all(folder).expect("a folder");
        fs::write(&unit, "").expect("a file");
        fs::write(folder.join("cgroup.procs"), processes).expect("a file");
        fs::write(folder.join("memory.use_hierarchy"), "1").expect("a file");
        let own = MemoryGroup::find(groups, mount.path()).expect("it is there");
        (mount, own)
    }

    fn v1(processes: &str) -> (tempfile::TempDir, MemoryGroup) {
        let file = "memory/unit/memory.limit_in_bytes";
        mounted("4:memory:/unit\n", file, processes)
    }

    fn v2(processes: &str) -> (tempfile::TempDir, MemoryGroup) {
        mounted("0::/unit\n", "unit/memory.events", processes)
    }

    fn text(folder: &Path, file: &str) -> String {
        fs::read_to_string(folder.join(file)).unwrap_or_default()
    }

    #[test]
    fn on_version_2_the_daemon_moves_into_a_leaf_and_each_worker_has_a_group() {
        let (mount, own) = v2("77\n");
        let groups = WorkerGroups::make(&own, DAEMON, true).expect("it is alone there");
        let unit = mount.path().join("unit");
        assert_eq!(text(&unit, "supervisor/cgroup.procs"), "77");
        assert_eq!(text(&unit, "cgroup.subtree_control"), "+memory");
        groups.put("1-2-9", 4711, Mebibytes(1000)).expect("made");
        let worker = unit.join("worker-1-2-9");
        assert_eq!(text(&worker, "cgroup.procs"), "4711");
        assert_eq!(
            text(&worker, "memory.high"),
            ((1250 + 256) << 20).to_string()
        );
        assert_eq!(
            text(&worker, "memory.max"),
            ((1500 + 512) << 20).to_string()
        );
        assert_eq!(text(&worker, "memory.oom.group"), "1");
    }

    #[test]
    fn in_a_leaf_of_a_service_manager_the_groups_are_beside_it() {
        let (mount, _) = v2("");
        let leaf = mount.path().join("unit/supervisor");
        fs::create_dir(&leaf).expect("a folder");
        fs::write(leaf.join("memory.events"), "").expect("a file");
        let own = MemoryGroup::find("0::/unit/supervisor\n", mount.path()).expect("there");
        let groups = WorkerGroups::make(&own, DAEMON, true).expect("it is alone there");
        assert_eq!(groups.base.folder(), mount.path().join("unit"));
    }

    #[test]
    fn a_group_with_other_processes_is_left_alone() {
        for (_mount, own) in [v1("77\n78\n"), v2("77\n78\n")] {
            let refused = WorkerGroups::make(&own, DAEMON, true).expect_err("shared");
            assert!(refused.starts_with("1 other processes are in"), "{refused}");
        }
        let (_mount, own) = v2("77\n78\n");
        WorkerGroups::make(&own, DAEMON, false).expect_err("only leaves have processes");
        let (mount, own) = v1("77\n78\n");
        let groups = WorkerGroups::make(&own, DAEMON, false).expect("asked for");
        groups.put("1-2-9", 4711, Mebibytes(10)).expect("made");
        let worker = mount.path().join("memory/unit/worker-1-2-9");
        assert_eq!(text(&worker, "cgroup.procs"), "4711");
        let hard = text(&worker, "memory.limit_in_bytes");
        assert_eq!(hard, ((10 + 5 + 512) << 20).to_string());
    }

    #[test]
    fn the_groups_of_a_killed_daemon_are_removed() {
        let (mount, own) = v1("77\n");
        let unit = mount.path().join("memory/unit");
        let alive = format!("worker-{}-3", Identity::own());
        for name in [
            "worker-1-18446744073709551615-4",
            alive.as_str(),
            "worker-x",
            "other",
        ] {
            fs::create_dir(unit.join(name)).expect("a folder");
        }
        let groups = WorkerGroups::make(&own, DAEMON, true).expect("it is alone there");
        groups.sweep();
        let mut left: Vec<String> = groups.base.children().collect();
        left.sort();
        assert_eq!(left, ["other", alive.as_str(), "worker-x"]);
    }

    #[test]
    fn a_kill_is_the_fault_of_the_group_that_reached_its_limit() {
        let (mount, own) = v2("77\n");
        let groups = WorkerGroups::make(&own, DAEMON, true).expect("it is alone there");
        let worker = groups.put("1-2-9", 4711, Mebibytes(1)).expect("made");
        let events = mount.path().join("unit/worker-1-2-9/memory.events");
        let explained = |text: &str| {
            fs::write(&events, text).expect("ours");
            worker.explain(9)
        };
        assert_eq!(explained("oom 0\noom_kill 0\n"), None);
        assert_eq!(explained("oom 0\noom_kill 1\n"), Some(KilledBy::KernelOom));
        assert_eq!(explained("oom 3\noom_kill 1\n"), Some(KilledBy::OwnLimit));
        assert_eq!(worker.explain(11), None);
    }

    #[test]
    fn limits_are_raised_and_never_lowered() {
        let (mount, own) = v1("77\n");
        let groups = WorkerGroups::make(&own, DAEMON, true).expect("it is alone there");
        let worker = groups.put("1-2-9", 4711, Mebibytes(100)).expect("made");
        let folder = mount.path().join("memory/unit/worker-1-2-9");
        let hard = || text(&folder, "memory.limit_in_bytes");
        worker.raise(Mebibytes(200));
        assert_eq!(hard(), ((200 + 100 + 512) << 20).to_string());
        worker.raise(Mebibytes(50));
        assert_eq!(hard(), ((200 + 100 + 512) << 20).to_string());
    }
}
