//! Memory limits and kill counts of control groups, and their children, versions 1 and 2 (cgroups(7)).

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

/// Where control groups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";
/// The file with the processes of a group.
const PROCESSES: &str = "cgroup.procs";
/// Limits from here on mean "no limit": version 1 writes that as the largest multiple of a page.
const UNLIMITED_FROM: u64 = 1 << 60;

/// A control group that accounts for the memory of processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryGroup {
    version: Version,
    folder: PathBuf,
    /// The topmost folder of the hierarchy; the limits of all parents up to here apply too.
    top: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl MemoryGroup {
    /// Finds the group of this process, if the kernel reports one.
    pub fn own() -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        Self::find(&groups, Path::new(MOUNT))
    }

    /// Finds the memory group in `groups`, the text of /proc/PID/cgroup, with the hierarchies at `mount`. Looks for version 1 first: if both versions are
    /// mounted, only one of them has the memory controller.
    pub fn find(groups: &str, mount: &Path) -> Option<Self> {
        let lines = || groups.lines().filter_map(|line| line.split_once(':'));
        let at = |version, top: PathBuf, path: &str, file: &str| {
            // In a container the path may be the one on the host, while the mount has the group itself as its root.
            let inner = top.join(path.trim_start_matches('/'));
            let folder = [inner, top.clone()].into_iter();
            let folder = folder.into_iter().find(|it| it.join(file).is_file())?;
            Some(Self {
                version,
                folder,
                top,
            })
        };
        let one = lines().find_map(|(_, rest)| {
            let (controllers, path) = rest.split_once(':')?;
            let has_memory = controllers.split(',').any(|name| name == "memory");
            has_memory.then_some(path)
        });
        let one = one.and_then(|path| {
            let top = mount.join("memory");
            at(Version::One, top, path, "memory.limit_in_bytes")
        });
        one.or_else(|| {
            let path = lines().find_map(|(number, rest)| {
                let path = rest.strip_prefix(':')?;
                (number == "0").then_some(path)
            })?;
            at(Version::Two, mount.to_owned(), path, "memory.events")
        })
    }

    /// The lowest memory limit of the group and its parents, in bytes; `None` if none has a limit.
    pub fn limit_bytes(&self) -> Option<u64> {
        let file = match self.version {
            Version::One => "memory.limit_in_bytes",
            Version::Two => "memory.max",
        };
        let groups = self.folder.ancestors();
        let ours = groups.take_while(|folder| folder.starts_with(&self.top));
        // "max" means no limit and does not parse as a number.
        let limits = ours.filter_map(|folder| number(&folder.join(file)));
        limits.filter(|limit| *limit < UNLIMITED_FROM).min()
    }

    /// The number of out-of-memory kills in the group; `None` for the root group, which counts those of the whole machine.
    pub fn out_of_memory_kills(&self) -> Option<u64> {
        let file = match self.version {
            Version::One if self.folder == self.top => return None,
            Version::One => "memory.oom_control",
            // The root group has no such file.
            Version::Two => "memory.events",
        };
        self.count(file, "oom_kill ")
    }
}

impl MemoryGroup {
    /// `v1` or `v2`.
    pub fn version(&self) -> &'static str {
        match self.version {
            Version::One => "v1",
            Version::Two => "v2",
        }
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The group around it; `None` for the topmost.
    pub fn parent(&self) -> Option<Self> {
        let folder = self.folder.parent()?;
        folder.starts_with(&self.top).then(|| Self {
            folder: folder.to_owned(),
            ..self.clone()
        })
    }

    /// The processes in it, without those in its children.
    ///
    /// # Errors
    /// The kernel does not list them.
    pub fn processes(&self) -> io::Result<Vec<u32>> {
        let text = fs::read_to_string(self.folder.join(PROCESSES))?;
        Ok(text.lines().filter_map(|pid| pid.parse().ok()).collect())
    }

    /// Kills all its processes.
    ///
    /// # Errors
    /// It is gone.
    pub fn kill(&self) -> io::Result<()> {
        // Since Linux 5.14, on version 2.
        let kill = OpenOptions::new()
            .write(true)
            .open(self.folder.join("cgroup.kill"));
        if let Ok(mut kill) = kill
            && kill.write_all(b"1").is_ok()
        {
            return Ok(());
        }
        for pid in self.processes()?.into_iter().flat_map(i32::try_from) {
            // ESRCH: it has exited by itself.
            let _ = signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        Ok(())
    }

    /// Moves a process into it, with all its threads. Memory that it has touched before stays with its former group.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn add(&self, pid: u32) -> io::Result<()> {
        fs::write(self.folder.join(PROCESSES), pid.to_string())
    }

    /// Lets children have limits of their own, which count towards its limit.
    ///
    /// # Errors
    /// It has no right to that, or processes are in the way.
    pub fn govern_children(&self) -> io::Result<()> {
        match self.version {
            Version::Two => fs::write(self.folder.join("cgroup.subtree_control"), "+memory"),
            Version::One => match number(&self.folder.join("memory.use_hierarchy")) {
                Some(1) => Ok(()),
                Some(_) | None => Err(io::Error::other(
                    "memory of child groups does not count towards it",
                )),
            },
        }
    }

    /// Returns a child group, which is made unless it exists.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn child(&self, name: &str) -> io::Result<Self> {
        let folder = self.folder.join(name);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Ok(()) | Err(_) => Ok(Self {
                folder,
                ..self.clone()
            }),
        }
    }

    /// The names of its children.
    pub fn children(&self) -> impl Iterator<Item = String> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.filter_map(|entry| entry.file_name().into_string().ok())
    }

    /// Removes it.
    ///
    /// # Errors
    /// There are processes or children in it.
    pub fn remove(&self) -> io::Result<()> {
        fs::remove_dir(&self.folder)
    }

    /// Limits its memory: from `soft` bytes on the kernel takes back what it can, and at `hard` bytes, where that is not
    /// enough, it kills the whole group.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn limit(&self, soft: u64, hard: u64) -> io::Result<()> {
        let write = |file: &str, bytes: u64| fs::write(self.folder.join(file), bytes.to_string());
        match self.version {
            Version::One => {
                write("memory.limit_in_bytes", hard)?;
                write("memory.soft_limit_in_bytes", soft)
            }
            Version::Two => {
                write("memory.max", hard)?;
                write("memory.high", soft)?;
                write("memory.oom.group", 1)
            }
        }
    }

    /// How often its own limit, and not that of a parent, was in the way of an allocation.
    pub fn limit_hits(&self) -> Option<u64> {
        match self.version {
            Version::One => number(&self.folder.join("memory.failcnt")),
            Version::Two => self.count("memory.events", "oom "),
        }
    }

    /// A number in a file of named numbers.
    fn count(&self, file: &str, name: &str) -> Option<u64> {
        let text = fs::read_to_string(self.folder.join(file)).ok()?;
        let count = text.lines().find_map(|line| line.strip_prefix(name))?;
        count.trim().parse().ok()
    }
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in for the mount, with these files.
    fn mounted(files: &[(&str, &str)]) -> tempfile::TempDir {
        let mount = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let file = mount.path().join(name);
            fs::create_dir_all(file.parent().expect("inside the mount")).expect("a folder");
            fs::write(file, text).expect("a file");
        }
        mount
    }

    #[test]
    fn the_limit_of_a_version_1_group_is_the_lowest_up_to_the_mount() {
        let none = "9223372036854771712\n";
        let mount = mounted(&[
            ("memory/memory.limit_in_bytes", none),
            ("memory/a/memory.limit_in_bytes", "1048576\n"),
            ("memory/a/b/memory.limit_in_bytes", none),
            ("memory/a/b/memory.oom_control", "under_oom 0\noom_kill 3\n"),
        ]);
        let groups = "5:cpu,cpuacct:/x\n4:memory:/a/b\n0::/\n";
        let group = MemoryGroup::find(groups, mount.path()).expect("it is there");
        assert_eq!(group.limit_bytes(), Some(1 << 20));
        assert_eq!(group.out_of_memory_kills(), Some(3));
    }

    #[test]
    fn the_limit_of_a_version_2_group_is_the_lowest_up_to_the_mount() {
        let mount = mounted(&[
            ("a/memory.max", "4096\n"),
            ("a/b/memory.max", "max\n"),
            ("a/b/memory.events", "oom 9\noom_kill 2\noom_group_kill 7\n"),
        ]);
        let group = MemoryGroup::find("0::/a/b\n", mount.path()).expect("it is there");
        assert_eq!(group.limit_bytes(), Some(4096));
        assert_eq!(group.out_of_memory_kills(), Some(2));
    }

    #[test]
    fn a_group_reports_how_often_its_own_limit_was_hit() {
        let mount = mounted(&[
            ("a/memory.events", "oom 9\noom_kill 2\noom_group_kill 7\n"),
            ("memory/b/memory.limit_in_bytes", "4096\n"),
            ("memory/b/memory.failcnt", "5\n"),
        ]);
        let hits = |groups: &str| {
            let group = MemoryGroup::find(groups, mount.path()).expect("it is there");
            (group.version(), group.limit_hits())
        };
        assert_eq!(hits("0::/a\n"), ("v2", Some(9)));
        assert_eq!(hits("4:memory:/b\n"), ("v1", Some(5)));
    }

    #[test]
    fn a_group_of_version_2_is_killed_as_a_whole() {
        let mount = mounted(&[("a/memory.events", ""), ("a/cgroup.kill", "")]);
        let group = MemoryGroup::find("0::/a\n", mount.path()).expect("it is there");
        group.kill().expect("it is there");
        let written = fs::read_to_string(mount.path().join("a/cgroup.kill"));
        assert_eq!(written.expect("it is there"), "1");
    }

    #[test]
    fn the_root_group_reports_no_kills() {
        let mount = mounted(&[
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/memory.oom_control", "oom_kill 3\n"),
        ]);
        let group = MemoryGroup::find("4:memory:/\n", mount.path()).expect("it is there");
        assert_eq!(group.out_of_memory_kills(), None);
        assert_eq!(group.limit_bytes(), None);
        assert_eq!(MemoryGroup::find("0::/\n", mount.path()), None);
    }

    #[test]
    fn in_a_container_with_host_paths_the_group_is_at_the_mount() {
        let mount = mounted(&[("memory/memory.limit_in_bytes", "8192\n")]);
        let group = MemoryGroup::find("4:memory:/docker/0123\n", mount.path());
        assert_eq!(group.and_then(|group| group.limit_bytes()), Some(8192));
    }
}
