//! Memory: its amount, the kernel's overcommit, /dev/shm, and segments.

use std::fs;

use ipc_protocol::segment::{Backing, Geometry, Segment};
use ipc_protocol::units::Mebibytes;
use nix::sys::statvfs::statvfs;

use super::machine::Machine;
use crate::cli::doctor::result::CheckResult;
use crate::probe;

const AMOUNT: &str = "memory";
const OVERCOMMIT: &str = "overcommit";
const SHARED: &str = "/dev/shm";
const SEGMENT: &str = "segments";

/// Workers of the embedded model need more than this.
const LEAST: Mebibytes = Mebibytes(256);
/// Size of the largest picture's segment, rounded up.
const SEGMENT_MB: u64 = 64;

/// Checks the memory that workers may reserve.
pub fn amount(machine: &Machine) -> Vec<CheckResult> {
    let usable = probe::host_memory();
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let limit = machine
        .config
        .host_limit
        .unwrap_or(Mebibytes(usable.0 * machine.config.limit_percent / 100));
    vec![judge_amount(&info, usable, limit)]
}

fn judge_amount(info: &str, usable: Mebibytes, limit: Mebibytes) -> CheckResult {
    let total = field(info, "MemTotal:").unwrap_or(usable);
    let available = field(info, "MemAvailable:").unwrap_or(usable);
    let found =
        format!("{total} in the machine, {available} available; workers may reserve {limit}");
    if limit < LEAST && usable < total {
        return CheckResult::problem(
            AMOUNT,
            format!("{found}, because the control group allows {usable}"),
            "the limit of the control group",
            "raise MemoryMax= of the unit or the container's memory limit",
        );
    }
    if limit < LEAST {
        return CheckResult::problem(
            AMOUNT,
            format!("{found}: the smallest model needs {LEAST}"),
            "the settings, or the machine",
            "raise memory.host_limit_mb or memory.limit_percent in the settings",
        );
    }
    if available < LEAST {
        return CheckResult::problem(
            AMOUNT,
            found,
            "other programs, which have the rest",
            "`ps aux --sort=-rss | head` lists the largest; end some of them",
        );
    }
    if limit > available {
        return CheckResult::warning(
            AMOUNT,
            format!("{found}, more than is available"),
            "other programs, which have the rest",
            format!(
                "end some of them, or set memory.host_limit_mb = {} in the settings",
                available.0
            ),
        );
    }
    CheckResult::ok(AMOUNT, found)
}

/// Checks how the kernel promises memory.
pub fn overcommit(_: &Machine) -> Vec<CheckResult> {
    let mode = fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap_or_default();
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    vec![judge_overcommit(mode.trim(), &info)]
}

fn judge_overcommit(mode: &str, info: &str) -> CheckResult {
    let left = || {
        let limit = field(info, "CommitLimit:")?;
        let used = field(info, "Committed_AS:")?;
        Some(Mebibytes(limit.0.saturating_sub(used.0)))
    };
    match (mode, left()) {
        ("2", Some(left)) => {
            let found = format!("vm.overcommit_memory = 2: processes can still be promised {left}");
            let (fault, remedy) = (
                "the kernel's settings: CUDA and weight files need promises that are not used",
                "`sysctl vm.overcommit_memory=0`, or raise vm.overcommit_ratio",
            );
            match left < Mebibytes(1024) {
                true => CheckResult::problem(OVERCOMMIT, found, fault, remedy),
                false => CheckResult::warning(OVERCOMMIT, found, fault, remedy),
            }
        }
        (mode, _) => CheckResult::ok(OVERCOMMIT, format!("vm.overcommit_memory = {mode}")),
    }
}

/// Checks the room of /dev/shm, where named segments are.
pub fn shared(machine: &Machine) -> Vec<CheckResult> {
    let free = match statvfs("/dev/shm") {
        Ok(found) => Mebibytes((found.blocks_available() * found.fragment_size()) >> 20),
        Err(errno) => {
            let found = format!("/dev/shm cannot be used: {errno}");
            return vec![judge_missing(machine.config.backing, found)];
        }
    };
    vec![judge_shared(machine.config.backing, free)]
}

fn judge_missing(backing: Backing, found: String) -> CheckResult {
    let (fault, remedy) = (
        "the mounts of this machine or container",
        "mount it: `mount -t tmpfs tmpfs /dev/shm`",
    );
    match backing {
        Backing::Sealed => CheckResult::warning(SHARED, found, fault, remedy),
        Backing::Named => CheckResult::problem(SHARED, found, fault, remedy),
    }
}

fn judge_shared(backing: Backing, free: Mebibytes) -> CheckResult {
    let found = format!("{free} free; a segment needs up to {SEGMENT_MB} MiB");
    let (fault, remedy) = (
        "the size of /dev/shm, or files left in it",
        "`ls -l /dev/shm`; `mount -o remount,size=1G /dev/shm`; for a container `--shm-size=1g`",
    );
    match (backing, free.0 < SEGMENT_MB) {
        (Backing::Sealed | Backing::Named, false) => CheckResult::ok(SHARED, found),
        (Backing::Named, true) => CheckResult::problem(SHARED, found, fault, remedy),
        (Backing::Sealed, true) => CheckResult::warning(
            SHARED,
            format!("{found} with segment = \"named\"; sealed ones do not use it"),
            fault,
            remedy,
        ),
    }
}

/// Makes a segment of the kind in the settings.
pub fn segment(machine: &Machine) -> Vec<CheckResult> {
    let geometry = Geometry {
        latents_bytes: 1 << 20,
        preview_bytes: 1 << 16,
        picture_bytes: 4 << 20,
    };
    let label = format!("imagepool-doctor-{}", std::process::id());
    let made = Segment::create(machine.config.backing, &label, geometry);
    vec![match (made, machine.config.backing) {
        (Ok(_), Backing::Sealed) => CheckResult::ok(SEGMENT, "a sealed segment can be made"),
        (Ok(_), Backing::Named) => CheckResult::ok(SEGMENT, "a named segment can be made"),
        (Err(error), Backing::Sealed) => CheckResult::problem(
            SEGMENT,
            error.to_string(),
            "the kernel, or a limit of file sizes or memory",
            "`ulimit -f unlimited`; without memfd seals set segment = \"named\" in the settings",
        ),
        (Err(error), Backing::Named) => CheckResult::problem(
            SEGMENT,
            error.to_string(),
            "/dev/shm, or a limit of file sizes",
            "`df /dev/shm`; `ulimit -f unlimited`; or set segment = \"sealed\" in the settings",
        ),
    }]
}

/// Parses a line `Name:   123 kB` of /proc/meminfo.
fn field(info: &str, name: &str) -> Option<Mebibytes> {
    let line = info.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Mebibytes(kib >> 10))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::result::Grade;

    const INFO: &str = "MemTotal:       16777216 kB\nMemAvailable:    8388608 kB\nCommitLimit:     8388608 kB\nCommitted_AS:    8000000 kB\n";

    #[test]
    fn too_little_memory_is_the_fault_of_its_limit_or_of_other_programs() {
        let total = Mebibytes(16 * 1024);
        let judged = |usable, limit| judge_amount(INFO, usable, Mebibytes(limit));
        assert_eq!(judged(total, 4096).grade, Grade::Ok);
        let more = judged(total, 12_000);
        assert_eq!(more.grade, Grade::Warning);
        assert!(
            more.advice
                .is_some_and(|advice| advice.remedy.contains("8192"))
        );
        let grouped = judged(Mebibytes(100), 80);
        assert_eq!(grouped.grade, Grade::Problem);
        assert!(
            grouped.found.contains("control group allows 100 MiB"),
            "{grouped:?}"
        );
        let set = judged(total, 80);
        assert!(
            set.advice
                .is_some_and(|advice| advice.remedy.contains("host_limit_mb"))
        );
    }

    #[test]
    fn strict_overcommit_is_a_problem_when_little_is_left() {
        assert_eq!(judge_overcommit("0", INFO).grade, Grade::Ok);
        assert_eq!(judge_overcommit("1", "").grade, Grade::Ok);
        let strict = judge_overcommit("2", INFO);
        assert_eq!(strict.grade, Grade::Problem);
        assert!(strict.found.contains("380 MiB"), "{strict:?}");
    }

    #[test]
    fn a_small_dev_shm_matters_for_named_segments() {
        let free = Mebibytes(1);
        assert_eq!(judge_shared(Backing::Named, free).grade, Grade::Problem);
        assert_eq!(judge_shared(Backing::Sealed, free).grade, Grade::Warning);
        let large = Mebibytes(1024);
        assert_eq!(judge_shared(Backing::Named, large).grade, Grade::Ok);
    }
}
