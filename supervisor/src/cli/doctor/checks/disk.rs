//! Room on the disk for models.

use std::path::PathBuf;

use nix::sys::statvfs::statvfs;
use store::Store;

use super::folders::existing;
use super::machine::Machine;
use crate::cli::doctor::result::CheckResult;

const CHECK: &str = "model folder";

const GIB: u64 = 1 << 30;
/// Bytes of the largest model's files, with some room.
const LARGEST: u64 = 40 * GIB;
/// Room below which not even a lookup is stored.
const LEAST: u64 = GIB / 4;
/// A fetched model is tens of files.
const INODES_LEAST: u64 = 1000;

/// Checks the file system of the models' folder.
pub fn check(machine: &Machine) -> Vec<CheckResult> {
    let hub = &machine.config.hub;
    let folder: PathBuf = hub.folder.clone().unwrap_or_else(Store::default_root);
    let shown = folder.display().to_string();
    let found = match statvfs(existing(&folder)) {
        Ok(found) => found,
        Err(errno) => {
            return vec![CheckResult::problem(
                CHECK,
                format!("{shown} cannot be examined: {errno}"),
                "its file system",
                "choose another folder: [hub] folder in the settings",
            )];
        }
    };
    let free = found.blocks_available() * found.fragment_size();
    // A file system without a fixed number of inodes reports none.
    let inodes = (found.files() > 0).then_some(found.files_available());
    vec![judge(&shown, free, inodes)]
}

fn judge(folder: &str, free: u64, inodes: Option<u64>) -> CheckResult {
    let room = format!("{:.1} GiB free in {folder}", free as f64 / GIB as f64);
    let remedy = format!(
        "`df {folder}`; `imagepool models rm MODEL`; or another folder: [hub] folder in the settings"
    );
    if let Some(inodes) = inodes.filter(|inodes| *inodes < INODES_LEAST) {
        return CheckResult::problem(
            CHECK,
            format!("{room}, but only {inodes} inodes"),
            "the disk: it has too many small files",
            format!("`df -i {folder}`; or another folder: [hub] folder in the settings"),
        );
    }
    match free {
        free if free < LEAST => {
            CheckResult::problem(CHECK, room, "the disk, which is full", remedy)
        }
        free if free < LARGEST => CheckResult::warning(
            CHECK,
            format!(
                "{room}; the largest model needs about {} GiB",
                LARGEST / GIB
            ),
            "the disk",
            remedy,
        ),
        _ => CheckResult::ok(CHECK, room),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::result::Grade;

    #[test]
    fn a_full_disk_is_a_problem_and_a_small_one_a_warning() {
        let grade = |free, inodes| judge("/models", free, inodes).grade;
        assert_eq!(grade(100 * GIB, Some(1_000_000)), Grade::Ok);
        assert_eq!(grade(100 * GIB, None), Grade::Ok);
        assert_eq!(grade(10 * GIB, None), Grade::Warning);
        assert_eq!(grade(GIB / 10, None), Grade::Problem);
        assert_eq!(grade(100 * GIB, Some(3)), Grade::Problem);
    }
}
