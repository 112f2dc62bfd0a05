//! The named back end of segments: for Linux without memfd seals, or if configured.
//!
//! The `shared_memory` crate creates the object (mode 0600). We open it again through /dev/shm for
//! positioned IO and drop the crate's handle without unlinking, because that handle is not `Send` and
//! unlinks only when a process exits normally. From then on, `SegmentName` unlinks the object.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use shared_memory::ShmemConf;

use super::{SegmentError, os, reserve};

/// The folder of POSIX shared memory on Linux.
const FOLDER: &str = "/dev/shm";
/// Prefix of all our names.
const PREFIX: &str = "imagepool-";

/// The name of a segment. Dropping it unlinks the object.
#[derive(Debug)]
pub(super) struct SegmentName(PathBuf);

impl Drop for SegmentName {
    fn drop(&mut self) {
        // An error is ignored: a missing object is what we want, and a remaining one is removed by
        // `sweep` at the next start.
        let _ = fs::remove_file(&self.0);
    }
}

pub(super) fn create(label: &str, bytes: u64) -> Result<(File, SegmentName), SegmentError> {
    let mut object = ShmemConf::new()
        .size(bytes as usize)
        .os_id(format!("/{PREFIX}{label}"))
        .create()
        .map_err(|error| {
            os("create a shared-memory object")(io::Error::other(error.to_string()))
        })?;
    let path = Path::new(FOLDER).join(format!("{PREFIX}{label}"));
    object.set_owner(false);
    let name = SegmentName(path.clone());
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(os("open a shared-memory object"))?;
    reserve(&file, bytes)?;
    Ok((file, name))
}

/// Unlinks the objects of this user's dead supervisors: those whose label begins with a
/// `PID-STARTTIME-` for which `is_alive` returns false. Returns the number of unlinked objects.
pub fn sweep(is_alive: impl Fn(&str) -> bool) -> usize {
    let Ok(entries) = fs::read_dir(FOLDER) else {
        return 0;
    };
    entries
        .flatten()
        .filter(|entry| {
            entry
                .file_name()
                .to_str()
                .and_then(|name| name.strip_prefix(PREFIX))
                .and_then(|label| label.rsplit_once('-'))
                .is_some_and(|(owner, _generation)| !is_alive(owner))
        })
        // Objects of other users cannot be removed, and are not counted.
        .filter(|entry| fs::remove_file(entry.path()).is_ok())
        .count()
}
