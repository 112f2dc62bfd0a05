//! The errors of the client library.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::connection::ConnectionError;
use crate::failure::Failure;
use crate::messages::client::FromPool;
use crate::version::mismatch;

/// The reason why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon answers at the socket.
    #[error("no daemon answers at {}: {source}", path.display())]
    NoDaemon {
        /// The socket.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// No socket was given, and no daemon answers at the usual paths.
    #[error("no daemon answers at {}", places.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or "))]
    NoDaemonAnywhere {
        /// The sockets that were tried.
        places: Vec<PathBuf>,
    },
    /// The socket, or its folder, does not admit this user. Nothing was sent to it.
    #[error(
        "the socket {} does not admit you: {}",
        path.display(),
        admission(group.as_deref())
    )]
    NotAdmitted {
        /// The socket.
        path: PathBuf,
        /// The group that it admits, if it admits one besides root's.
        group: Option<String>,
    },
    /// Another user could have created this socket. Nothing was sent to it.
    #[error(
        "the socket {} is not trusted: {why}; nothing was sent to it; have it removed, or name the daemon's socket with --socket or $IMAGEPOOL_SOCKET",
        path.display()
    )]
    NotTrusted {
        /// The socket.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// The daemon speaks another protocol version.
    #[error("{}", mismatch(*theirs))]
    OtherVersion {
        /// Its protocol version.
        theirs: u32,
    },
    /// The daemon refused the connection or the request.
    #[error(transparent)]
    Refused(#[from] Failure),
    /// The connection broke, or the daemon sent bytes that are not a frame.
    #[error("the connection to the daemon broke: {0}")]
    Broken(#[from] ConnectionError),
    /// The daemon ended before it answered, and none answered in time.
    #[error(
        "the daemon ended before it answered, and none answered within {} s; try again later",
        after.as_secs_f64()
    )]
    Lost {
        /// How long the client waited for a daemon.
        after: Duration,
    },
    /// The daemon ended before it answered a detached request, which may have become jobs.
    #[error(
        "the daemon ended before it answered: `imagepool jobs` shows whether it accepted the request; if it is not there, try again"
    )]
    Unanswered,
    /// The daemon sent a message that is not allowed at this point.
    #[error("the daemon sent an unexpected message: {0}")]
    Unexpected(String),
}

/// How a user comes to be admitted to a socket.
fn admission(group: Option<&str>) -> String {
    match group {
        Some(group) => format!("have its operator add you to the group {group}"),
        None => "its operator can let a group in, with socket.mode = \"0660\" and a runtime folder of that group".into(),
    }
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.into())
    }
}

impl ClientError {
    /// The error about a message that is not allowed at this point.
    pub(crate) fn unexpected(message: &FromPool) -> Self {
        Self::Unexpected(format!("{message:?}"))
    }
}
