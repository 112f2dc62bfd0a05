//! Whether a daemon may make a control group for each worker, so that the kernel can limit one alone.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::machine::Machine;
use crate::cli::doctor::result::CheckResult;

const CHECK: &str = "control group";
const MOUNT: &str = "/sys/fs/cgroup";

const LEAK: &str = "the service manager: a worker that leaks memory cannot be ended alone";
const DELEGATE: &str =
    "Delegate=yes in the unit; for a trial `systemd-run --user --scope -p Delegate=yes supervisor`";

/// Checks the memory controller, and whether it is delegated.
pub fn check(machine: &Machine) -> Vec<CheckResult> {
    if let Ok(daemon) = &machine.daemon {
        let supervisor = &daemon.report.supervisor;
        let detail = &supervisor.control_groups_detail;
        return vec![judge_daemon(&supervisor.control_groups, detail)];
    }
    let own = || fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = format!("/proc/{}/cgroup", machine.examined_pid());
    let groups = fs::read_to_string(path).unwrap_or_else(|_| own());
    let writable = |folder: &Path| access(folder, AccessFlags::W_OK).is_ok();
    vec![judge(&groups, Path::new(MOUNT), writable)]
}

/// Judges the groups of a daemon that runs, in its words.
fn judge_daemon(groups: &str, detail: &str) -> CheckResult {
    let none = match detail {
        "" => "workers have none of their own".to_owned(),
        detail => format!("workers have none of their own: {detail}"),
    };
    match groups {
        "v1" | "v2" => CheckResult::ok(
            CHECK,
            format!("each worker has one ({groups}), in {detail}"),
        ),
        "off" => CheckResult::warning(
            CHECK,
            none,
            "the settings: a worker that leaks memory cannot be ended alone",
            "allow them in the settings, and restart the daemon",
        ),
        _ => CheckResult::warning(CHECK, none, LEAK, DELEGATE),
    }
}

/// The folder of the group with the memory controller, and the version of control groups.
fn memory_group(groups: &str, mount: &Path) -> Option<(PathBuf, u8)> {
    let lines = || {
        groups
            .lines()
            .filter_map(|line| line.splitn(3, ':').collect::<Vec<_>>().try_into().ok())
    };
    let inner = |top: PathBuf, path: &str| top.join(path.trim_start_matches('/'));
    let one = lines().find_map(|[_, controllers, path]: [&str; 3]| {
        let has_memory = controllers.split(',').any(|name| name == "memory");
        has_memory.then(|| inner(mount.join("memory"), path))
    });
    if let Some(folder) = one.filter(|folder| folder.is_dir()) {
        return Some((folder, 1));
    }
    let two = lines().find_map(|[number, _, path]: [&str; 3]| {
        (number == "0").then(|| inner(mount.to_owned(), path))
    })?;
    let controllers = fs::read_to_string(two.join("cgroup.controllers")).ok()?;
    let has_memory = controllers.split_whitespace().any(|name| name == "memory");
    has_memory.then_some((two, 2))
}

fn judge(groups: &str, mount: &Path, is_writable: impl Fn(&Path) -> bool) -> CheckResult {
    let Some((folder, version)) = memory_group(groups, mount) else {
        return CheckResult::warning(
            CHECK,
            format!("no memory controller in {}", mount.display()),
            "the kernel or the container: a worker that leaks memory cannot be ended alone",
            "run as a service of systemd with Delegate=yes; in a container mount /sys/fs/cgroup",
        );
    };
    let shown = folder.display();
    match is_writable(&folder) {
        true => CheckResult::ok(
            CHECK,
            format!("version {version}, {shown} can be divided for workers"),
        ),
        false => CheckResult::warning(
            CHECK,
            format!("version {version}, {shown} is not delegated to this user"),
            LEAK,
            DELEGATE,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::result::Grade;

    #[test]
    fn a_group_is_judged_by_its_controller_and_its_rights() {
        let mount = tempfile::tempdir().expect("a folder");
        let group = mount.path().join("a/b");
        fs::create_dir_all(&group).expect("ours");
        let judged = |writable| judge("0::/a/b\n", mount.path(), |_| writable);
        assert!(judged(true).found.contains("no memory controller"));
        fs::write(group.join("cgroup.controllers"), "cpu memory pids\n").expect("ours");
        assert_eq!(judged(true).grade, Grade::Ok);
        assert!(judged(false).found.contains("is not delegated"));
        fs::create_dir_all(mount.path().join("memory/x")).expect("ours");
        assert_eq!(judge_daemon("v2", "/sys/fs/cgroup/a").grade, Grade::Ok);
        assert!(
            judge_daemon("none", "no rights")
                .found
                .ends_with("no rights")
        );
        let one = judge("4:memory:/x\n0::/a/b\n", mount.path(), |_| true);
        assert!(one.found.starts_with("version 1"), "{one:?}");
    }
}
