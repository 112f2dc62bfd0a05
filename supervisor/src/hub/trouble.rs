//! Why a model could not be fetched: what happened, whose fault it is, what to do next.

use std::io;
use std::path::{Path, PathBuf};

/// A fetch that did not bring its model.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The settings forbid the network.
    #[error(
        "hub.offline is set, so nothing is fetched; unset it, or set path in [models.{0}] to a folder of weights"
    )]
    Offline(String),
    /// No such model, variant or revision, or a setting that cannot be used.
    #[error("{0}")]
    Usage(String),
    /// The hub wants to know who asks, or says no to who does.
    #[error("{0}")]
    Gated(String),
    /// The hub has no such repository, revision or file.
    #[error("the hub has no {what}; check variant and revision in the settings, and hub.endpoint")]
    Absent {
        /// What was asked for.
        what: String,
    },
    /// The hub said something that is no answer.
    #[error(
        "the hub answered {status} for {what}{said}; that is its own trouble: try again later, or another hub.endpoint"
    )]
    Answer {
        /// The status, in numbers or words.
        status: String,
        /// What was asked for.
        what: String,
        /// What it said, with a colon before it, or nothing.
        said: String,
    },
    /// An answer that does not end where such an answer should.
    #[error(
        "the hub's answer for {what} is longer than that of any model, so it is not read; choose another hub.endpoint"
    )]
    Endless {
        /// What was asked for.
        what: String,
    },
    /// No conversation came about, or it broke more often than is worth trying.
    #[error(
        "{what} could not be transferred: {why}; what came is kept, and the next fetch goes on from there"
    )]
    Network {
        /// What was asked for.
        what: String,
        /// The last trouble.
        why: String,
    },
    /// The bytes are not those that the hub states. They are deleted.
    #[error(
        "{file} is not what the hub states (its digest is {found}): the transfer or the mirror changed it; it is deleted, so fetch again or choose another hub.endpoint"
    )]
    Wrong {
        /// The file.
        file: String,
        /// SHA-256 of what came.
        found: String,
    },
    /// The hub states no digest, so nothing could be checked.
    #[error(
        "the hub states no SHA-256 of {file}, so it cannot be checked and is not fetched; use a hub.endpoint that does"
    )]
    Unstated {
        /// The file.
        file: String,
    },
    /// A file name that could be written somewhere else.
    #[error("the hub lists a file that is refused: {0}")]
    Name(String),
    /// The disk is too small.
    #[error(
        "{} MiB are needed in {} and {} MiB are free; make room, or set hub.folder",
        needed_bytes.div_ceil(1 << 20), folder.display(), free_bytes >> 20
    )]
    NoRoom {
        /// Where.
        folder: PathBuf,
        /// Of what is not there yet.
        needed_bytes: u64,
        /// For our user.
        free_bytes: u64,
    },
    /// Our own folder cannot be used.
    #[error("cannot use {}: {source}", path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl FetchError {
    /// A word for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Offline(_) => "offline",
            Self::Usage(_) => "usage",
            Self::Gated(_) => "gated",
            Self::Absent { .. } => "absent",
            Self::Answer { .. } | Self::Endless { .. } => "hub",
            Self::Network { .. } => "network",
            Self::Wrong { .. } => "wrong_bytes",
            Self::Unstated { .. } => "unstated",
            Self::Name(_) => "name",
            Self::NoRoom { .. } => "no_room",
            Self::Folder { .. } => "folder",
        }
    }

    /// For `map_err` on something done to `path`.
    pub fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Folder { path, source }
    }
}
