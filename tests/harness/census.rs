//! A daemon's traces on a machine: files, names in shared memory, descriptors.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

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
