//! The lines about doors and their clients.

use std::fmt::Display;
use std::path::Path;

use tracing::{debug, error, warn};

/// A socket that is removed will not be made again.
pub fn unwatched(error: &dyn Display) {
    warn!(%error, "Cannot watch the runtime folder: a removed socket stays removed");
}

/// Another user's process holds the abstract name that protects the lock.
pub fn lock_unprotected(folder: &Path) {
    warn!(
        folder = %folder.display(),
        "Another user holds the name that protects the lock file from being removed"
    );
}

/// A client could not be accepted.
pub fn not_accepted(error: &dyn Display) {
    warn!(%error, "Cannot accept a client");
}

/// A client was turned away; an idle one may have been ended to make room.
pub fn out_of_descriptors(idle_client_ended: bool) {
    warn!(
        idle_client_ended,
        "Cannot accept a client: no descriptors are left; raise the limit of open files"
    );
}

/// The socket file stays behind.
pub fn socket_stays(socket: &Path, error: &dyn Display) {
    warn!(socket = %socket.display(), %error, "Cannot remove the socket");
}

/// The names of the door were removed and made again.
pub fn restored(socket: &Path) {
    warn!(socket = %socket.display(), "The socket, its lock or their folder was removed; it is back");
}

/// The names of the door were removed and cannot be made again.
pub fn unreachable(socket: &Path, error: &str) {
    error!(
        socket = %socket.display(), error,
        "No new client can connect: the socket's names were removed and cannot be made again. Make room for them, or restart the daemon"
    );
}

/// A client was dropped because the kernel does not name its user.
pub fn unknown_client(error: Option<&dyn Display>) {
    let error = error.map(tracing::field::display);
    warn!(error, "Cannot tell who a client is");
}

/// A conversation broke.
pub fn conversation_ended(error: &dyn Display) {
    debug!(%error, "A client's conversation ended");
}

/// A client sent something else than a frame, and was dropped.
pub fn not_a_frame(error: &dyn Display) {
    debug!(%error, "A client sent invalid bytes");
}
