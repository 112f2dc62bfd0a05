//! Marks of files: metadata that differs after a file was changed, so that its content need not be read.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A file or a folder as the kernel described it. Times are nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mark {
    /// Path of the file.
    pub path: String,
    /// Number of the file system, `st_dev`.
    pub device: u64,
    /// Number of the file within its file system.
    pub inode: u64,
    /// Length of the file.
    pub bytes: u64,
    /// Time of the last change of the content.
    pub modified_ns: i64,
    /// Time of the last change of the content, name, owner or mode.
    pub changed_ns: i64,
}

impl Mark {
    /// The mark of a file whose metadata was already read.
    pub fn new(path: &Path, found: &Metadata) -> Mark {
        let ns = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
        Mark {
            path: path.display().to_string(),
            device: found.dev(),
            inode: found.ino(),
            bytes: found.len(),
            modified_ns: ns(found.mtime(), found.mtime_nsec()),
            changed_ns: ns(found.ctime(), found.ctime_nsec()),
        }
    }

    /// Tells whether both marks have the same content: the file was not written in between. It may have moved.
    pub fn has_content_of(&self, other: &Mark) -> bool {
        let content = |mark: &Mark| (mark.device, mark.inode, mark.bytes, mark.modified_ns);
        content(self) == content(other)
    }

    /// Tells whether the file is as it was.
    pub fn is_current(&self) -> bool {
        Mark::of(Path::new(&self.path)).as_ref() == Some(self)
    }

    /// The mark of a file as it is now; `None` if its metadata cannot be read.
    pub fn of(path: &Path) -> Option<Mark> {
        let found = std::fs::metadata(path).ok()?;
        Some(Mark::new(path, &found))
    }
}
