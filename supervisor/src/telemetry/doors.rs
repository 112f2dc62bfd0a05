//! Log lines about doors and their clients.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;

use tracing::{debug, error, info, warn};

/// If the socket is removed, it will not be created again.
pub fn unwatched(error: &dyn Display) {
    warn!(%error, "Cannot watch the runtime folder: a removed socket stays removed");
}

/// A process of another user has taken the abstract socket name that locks the folder's path.
pub fn lock_unprotected(folder: &Path) {
    warn!(
        folder = %folder.display(),
        "Another user has taken the socket name of this folder: only the lock file protects it"
    );
}

/// A client could not be accepted.
pub fn not_accepted(error: &dyn Display) {
    warn!(%error, "Cannot accept a client");
}

/// A client came in at the cost of an idle one, got a place for short questions, or was refused.
pub fn out_of_descriptors() {
    warn!("No descriptors are left for clients: raise the limit of open files");
}

/// A client was refused because it, or its user, has no place.
pub fn no_place(user: &str, error: &dyn Display) {
    debug!(user, %error, "Client refused");
}

/// The socket file could not be removed.
pub fn socket_stays(socket: &Path, error: &dyn Display) {
    warn!(socket = %socket.display(), %error, "Cannot remove the socket");
}

/// Socket, lock or folder were removed and were created again.
pub fn restored(socket: &Path) {
    warn!(socket = %socket.display(), "Socket, lock or folder was removed and is restored");
}

/// Other users could write to the runtime folder, until now.
pub fn closed_folder(folder: &Path, mode: u32) {
    warn!(
        folder = %folder.display(), mode = %format_args!("{mode:04o}"),
        "Other users could write to the runtime folder: that permission is removed"
    );
}

/// Socket, lock or folder were removed and cannot be created again.
pub fn unreachable(socket: &Path, error: &str) {
    error!(
        socket = %socket.display(), error,
        "Socket, lock or folder was removed and cannot be restored: no client can connect; fix the cause or restart the daemon"
    );
}

/// A client was disconnected because its user is unknown.
pub fn unknown_client(error: Option<&dyn Display>) {
    let error = error.map(tracing::field::display);
    warn!(error, "Client disconnected: its user is unknown");
}

/// A connection ended with an error.
pub fn conversation_ended(error: &dyn Display) {
    debug!(%error, "Client disconnected");
}

/// A client sent bytes that are not a frame and was disconnected.
pub fn not_a_frame(error: &dyn Display) {
    debug!(%error, "Client sent an invalid frame");
}

/// The HTTP door accepts clients.
pub fn http_open(socket: &Path, addresses: &[SocketAddr], token: Option<&Path>) {
    let all: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    let address = (!all.is_empty()).then(|| tracing::field::display(all.join(",")));
    let token_file = token.map(|file| tracing::field::display(file.display()));
    info!(socket = %socket.display(), address, token_file, "HTTP door open");
}

/// The HTTP socket was removed and cannot be created again.
pub fn http_unreachable(socket: &Path, error: &dyn Display) {
    error!(
        socket = %socket.display(), %error,
        "HTTP socket was removed and cannot be restored: fix the cause or restart the daemon"
    );
}
