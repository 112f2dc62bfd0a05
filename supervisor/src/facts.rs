//! What is known of a model's files before a worker loads them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ipc_protocol::about::{Group, Rights};
use ipc_protocol::units::{Mebibytes, PictureSize};
use pool::{Activation, Family, SizeRule};

/// What a folder of weights turned out to hold; the worker program looks, because only it knows files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderFacts {
    /// The code that runs it.
    pub family: Family,
    /// Size where a request says nothing.
    pub default_size: PictureSize,
    /// Sizes it can draw.
    pub sizes: SizeRule,
    /// Steps where a request says nothing, and most.
    pub steps: (u32, u32),
    /// Weights as held and the process around them.
    pub residency: Mebibytes,
    /// What drawing takes beside them.
    pub activation: Activation,
    /// What drawing takes for each thread beyond the second.
    pub per_thread: Mebibytes,
    /// Digest of the weights; empty where taking it would have taken minutes.
    pub digest: String,
    /// What it can draw, by group; empty where its files do not say.
    pub draws: Vec<Group>,
    /// Terms and thanks, where its files say so.
    pub rights: Rights,
    /// What its files were when they were looked at; empty for models without files.
    pub stamp: String,
    /// The files and folders that the stamp is of.
    pub marks: Vec<Mark>,
}

impl FolderFacts {
    /// Whether the files are still what they were, as far as the kernel tells without reading them.
    pub fn are_current(&self) -> bool {
        !self.marks.is_empty()
            && self
                .marks
                .iter()
                .all(|mark| Mark::of(&mark.path).as_ref() == Some(mark))
    }
}

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// A file, or a folder, for what is in it.
    pub path: PathBuf,
    /// The file system it is on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// Its length.
    pub bytes: u64,
    /// When its content changed, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// When its content or its name, owner or mode changed.
    pub changed_ns: i64,
}

impl Mark {
    /// Of a file, as it is now.
    pub fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        let ns = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
        Some(Self {
            path: path.to_owned(),
            device: found.dev(),
            inode: found.ino(),
            bytes: found.len(),
            modified_ns: ns(found.mtime(), found.mtime_nsec()),
            changed_ns: ns(found.ctime(), found.ctime_nsec()),
        })
    }
}

/// What came of looking for a model's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// They are here.
    Seen {
        /// The folder, absolute and without links.
        folder: String,
        /// What is in it.
        found: Box<FolderFacts>,
    },
    /// They were not looked at yet.
    Unread,
    /// They cannot be used, for this reason.
    Broken(String),
}
