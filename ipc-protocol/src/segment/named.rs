//! The back end with a name: for Linux without memfd seals, and on request.
//!
//! The object is made by the `shared_memory` crate (mode 0600), opened a second time through
//! /dev/shm for positioned IO, and disowned, because the crate's own handle is not `Send` and its
//! unlinking happens only when a process ends in an orderly way. From then on a `Name` unlinks it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use shared_memory::ShmemConf;

use super::{SegmentError, os, reserve};

/// Where Linux shows POSIX shared memory.
const FOLDER: &str = "/dev/shm";
/// The beginning of all our names.
const PREFIX: &str = "imagepool-";

/// The name of a segment; dropping it unlinks the object.
#[derive(Debug)]
pub(super) struct Name(PathBuf);

impl Drop for Name {
    fn drop(&mut self) {
        // Gone already is as good as unlinked, and nothing else can be done about it here: what
        // stays is swept at the next start.
        let _ = fs::remove_file(&self.0);
    }
}

pub(super) fn create(label: &str, bytes: u64) -> Result<(File, Name), SegmentError> {
    let mut object = ShmemConf::new()
        .size(bytes as usize)
        .os_id(format!("/{PREFIX}{label}"))
        .create()
        .map_err(|error| {
            os("create a shared-memory object")(io::Error::other(error.to_string()))
        })?;
    let path = Path::new(FOLDER).join(format!("{PREFIX}{label}"));
    object.set_owner(false);
    let name = Name(path.clone());
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(os("open a shared-memory object"))?;
    reserve(&file, bytes)?;
    Ok((file, name))
}

/// Unlinks what supervisors of this user left behind: every object whose label begins with a
/// `PID-STARTTIME-` that `is_alive` denies. Returns how many there were.
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
        // Another user's object cannot be removed by us; that is the point of its mode.
        .filter(|entry| fs::remove_file(entry.path()).is_ok())
        .count()
}
