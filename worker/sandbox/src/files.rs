//! The rules for Landlock: which files can be read and which cannot, no network, no signals to others.
//!
//! The kernel also keeps a confined process from tracing processes outside, and from reading their memory, descriptors
//! and environment. Each worker is outside for every other.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags,
    path_beneath_rules,
};

use crate::SandboxProfile;

/// The newest version of the kernel's interface that these rules were tested with.
const TESTED: ABI = ABI::V7;

/// Reading, with listing folders.
const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});

/// Deepest folder inside a model's folder in which links are looked for.
const DEPTH_MAX: usize = 4;
/// Most entries of a folder that are looked at.
const ENTRIES_MAX: usize = 4096;

/// The processors of this machine, by which libraries choose their number of threads.
const PROCESSORS: &str = "/proc/cpuinfo";
const READ_BY_ALL: [&str; 2] = [PROCESSORS, "/sys/devices/system/cpu"];
/// Stays open, so that the kernel keeps the file that the rule is about: files in /proc are made anew when they were forgotten.
static KEPT_OPEN: OnceLock<Option<File>> = OnceLock::new();

/// Where a GPU's driver and its libraries read. It never writes outside of its devices: compiled kernels are not cached.
const READ_BY_GPU: [&str; 20] = [
    "/dev",
    "/etc/ld.so.cache",
    "/etc/nvidia",
    "/lib",
    "/lib64",
    "/nix/store",
    "/opt",
    "/proc/devices",
    "/proc/driver",
    "/proc/meminfo",
    "/proc/modules",
    "/proc/self",
    "/proc/stat",
    "/proc/sys",
    "/proc/version",
    "/run/nvidia",
    "/run/opengl-driver",
    "/sys",
    "/usr",
    "/var/lib/nvidia",
];
/// Variables with further folders of libraries, or with the cache of compiled kernels.
const FOLDERS_OF_GPU: [&str; 2] = ["LD_LIBRARY_PATH", "CUDA_CACHE_PATH"];

/// Forbids changes to files and folders, executing, TCP, abstract sockets and signals to processes outside. Returns the
/// version of the kernel's interface that was used; 0 if there is none.
pub fn forbid_changes(profile: SandboxProfile) -> u32 {
    match without_changes(profile).map(|status| (status.ruleset, status.landlock)) {
        Ok((
            RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced,
            LandlockStatus::Available { effective_abi, .. },
        )) => effective_abi.min(TESTED) as u32,
        Ok(_) | Err(_) => 0,
    }
}

fn without_changes(profile: SandboxProfile) -> Result<RestrictionStatus, RulesetError> {
    let changes = AccessFs::from_write(TESTED);
    let ruleset = Ruleset::default()
        .handle_access(changes | AccessFs::Execute)?
        .handle_access(AccessNet::from_all(TESTED))?
        .scope(Scope::from_all(TESTED))?
        .create()?;
    let use_of_device = make_bitflags!(AccessFs::{WriteFile | IoctlDev});
    let devices = path_beneath_rules(devices(profile), use_of_device);
    ruleset.add_rules(devices)?.restrict_self()
}

/// The device files of a GPU's driver.
fn devices(profile: SandboxProfile) -> Vec<PathBuf> {
    let of_driver = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with("nvidia") || name == "dxg"
    };
    match profile {
        SandboxProfile::Cpu => Vec::new(),
        SandboxProfile::Gpu => entries(Path::new("/dev")).filter(of_driver).collect(),
    }
}

/// Makes everything unreadable except the files of a folder and what the profile needs. Without Landlock it does nothing.
///
/// # Errors
/// The kernel refuses the rules.
pub fn allow_reading_only(profile: SandboxProfile, folder: Option<&Path>) -> Result<(), String> {
    KEPT_OPEN.get_or_init(|| File::open(PROCESSORS).ok());
    let mut readable: BTreeSet<_> = READ_BY_ALL.iter().map(PathBuf::from).collect();
    if let Some(folder) = folder {
        readable.insert(folder.to_owned());
        add_targets(folder, DEPTH_MAX, &mut readable);
    }
    if profile == SandboxProfile::Gpu {
        readable.extend(READ_BY_GPU.iter().map(PathBuf::from));
        for folders in FOLDERS_OF_GPU.iter().filter_map(std::env::var_os) {
            readable.extend(std::env::split_paths(&folders).filter(|path| path.is_absolute()));
        }
    }
    read_only(&readable)
        .map_err(|error| format!("cannot limit the files that can be read: {error}"))
}

fn read_only(readable: &BTreeSet<PathBuf>) -> Result<(), RulesetError> {
    // A path that does not exist is left out.
    Ruleset::default()
        .handle_access(READ)?
        .create()?
        .add_rules(path_beneath_rules(readable, READ))?
        .restrict_self()?;
    Ok(())
}

/// Adds the targets of the links in a folder. A cache of downloads has the files themselves in another folder.
fn add_targets(folder: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) {
    let Some(depth) = depth.checked_sub(1) else {
        return;
    };
    for path in entries(folder) {
        if !path.is_symlink() {
            if path.is_dir() {
                add_targets(&path, depth, found);
            }
        } else if let Ok(target) = path.canonicalize() {
            let is_folder = target.is_dir();
            if found.insert(target.clone()) && is_folder {
                add_targets(&target, depth, found);
            }
        }
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).take(ENTRIES_MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_targets_of_links_in_a_models_folder_can_be_read_too() {
        let top = std::env::temp_dir().join(format!("links-{}", std::process::id()));
        let (model, cache) = (top.join("model/vae"), top.join("cache"));
        fs::create_dir_all(&model).expect("a temporary folder");
        fs::create_dir_all(&cache).expect("a temporary folder");
        fs::write(cache.join("blob"), "").expect("ours");
        symlink(cache.join("blob"), model.join("ae.safetensors")).expect("ours");
        symlink(cache.join("gone"), model.join("dangling")).expect("ours");
        symlink("..", model.join("circle")).expect("ours");
        let mut found = BTreeSet::new();
        add_targets(&top.join("model"), DEPTH_MAX, &mut found);
        let expected = [cache.join("blob"), top.join("model")];
        let expected = expected.map(|path| path.canonicalize().expect("it exists"));
        assert_eq!(found, BTreeSet::from(expected));
        fs::remove_dir_all(top).expect("ours");
    }
}
