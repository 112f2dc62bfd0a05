//! Errors of a fetch: what happened, whose fault it is, what to do next.

use std::io;
use std::path::{Path, PathBuf};

/// Why a fetch failed.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The settings forbid the network.
    #[error(
        "hub.offline is set, so nothing is fetched; unset it, or set path in [models.{0}] to a folder of weights"
    )]
    Offline(String),
    /// An unknown model, variant or revision, or an invalid setting.
    #[error("{0}")]
    Usage(String),
    /// The repository requires a token, or refuses the one that was sent.
    #[error("{0}")]
    Gated(String),
    /// The hub has no such repository, revision or file.
    #[error("the hub has no {what}; check variant and revision in the settings, and hub.endpoint")]
    Absent {
        /// The requested object.
        what: String,
    },
    /// The hub failed, or its answer cannot be used.
    #[error(
        "the hub answered {status} for {what}{said}; the fault is the hub's: try again later, or set another hub.endpoint"
    )]
    Answer {
        /// The status as a number or in words.
        status: String,
        /// The requested object.
        what: String,
        /// The hub's message after a colon, or nothing.
        said: String,
    },
    /// An answer that exceeds its bound.
    #[error(
        "the hub's answer for {what} is longer than that of any model, so it is not read; set another hub.endpoint"
    )]
    Endless {
        /// The requested object.
        what: String,
    },
    /// The connection failed, or broke too often.
    #[error(
        "{what} could not be transferred: {why}; the bytes so far are kept, and the next fetch resumes"
    )]
    Network {
        /// The requested object.
        what: String,
        /// Reason of the last try.
        why: String,
    },
    /// The bytes differ from the stated digest; they are deleted.
    #[error(
        "{file} is not what the hub states (its SHA-256 is {found}): the transfer or the mirror changed it; it is deleted, so fetch again or set another hub.endpoint"
    )]
    Wrong {
        /// The file.
        file: String,
        /// SHA-256 of the bytes.
        found: String,
    },
    /// The hub states no digest to check against.
    #[error(
        "the hub states no SHA-256 of {file}, so it cannot be checked and is not fetched; set a hub.endpoint that does"
    )]
    Unstated {
        /// The file.
        file: String,
    },
    /// A file name that could lead out of the model's folder.
    #[error("the hub lists a file with an invalid name: {0}")]
    Name(String),
    /// The disk is too full.
    #[error(
        "{} MiB are needed in {} and {} MiB are free; free some space, or set hub.folder",
        needed_bytes.div_ceil(1 << 20), folder.display(), free_bytes >> 20
    )]
    NoRoom {
        /// The folder.
        folder: PathBuf,
        /// Bytes of the missing files.
        needed_bytes: u64,
        /// Bytes free for this user.
        free_bytes: u64,
    },
    /// A file or folder on this machine cannot be used.
    #[error("cannot use {}: {source}", path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// The error.
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

    /// Makes a [`FetchError::Folder`] of an error with `path`, for `map_err`.
    pub fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Folder { path, source }
    }
}
