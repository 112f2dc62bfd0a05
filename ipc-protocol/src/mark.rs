//! Marks of files: they differ when a file was changed, and need no reading of its content.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A file or a folder as the kernel described it. Times are nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mark {
    /// Where it is.
    pub path: String,
    /// The file system it is on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// Its length.
    pub bytes: u64,
    /// When its content changed.
    pub modified_ns: i64,
    /// When its content or its name, owner or mode changed.
    pub changed_ns: i64,
}

impl Mark {
    /// Of a file that was described when it was open or looked up.
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

    /// Whether nothing was written between the two, wherever the file has moved.
    pub fn has_content_of(&self, other: &Mark) -> bool {
        let content = |mark: &Mark| (mark.device, mark.inode, mark.bytes, mark.modified_ns);
        content(self) == content(other)
    }

    /// Of a file as it is now, if there is one.
    pub fn of(path: &Path) -> Option<Mark> {
        let found = std::fs::metadata(path).ok()?;
        Some(Mark::new(path, &found))
    }
}
