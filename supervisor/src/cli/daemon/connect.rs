//! Connects to the daemon, or to a private pool if none runs.

use ipc_protocol::client::{Client, ClientError};

use super::private::PrivatePool;
use crate::cli::args::ConnectOptions;
use crate::cli::{CommandError, say};

/// Connects to the daemon at the given socket, else to the first that answers in the usual folders.
///
/// # Errors
/// `NoDaemon` if the given socket does not answer; `NoDaemonAnywhere` or `NotTrusted` if none was given.
pub fn daemon(reach: &ConnectOptions) -> Result<Client, ClientError> {
    let client = match reach.named_socket() {
        Some(path) => Client::connect(&path),
        None => Client::connect_to_any(),
    };
    Ok(client?.with_patience(reach.reconnect.0))
}

/// Connects to the daemon; `None` if no socket was given and none runs.
pub fn daemon_if_any(reach: &ConnectOptions) -> Result<Option<Client>, CommandError> {
    match daemon(reach) {
        Ok(client) => Ok(Some(client)),
        Err(ClientError::NoDaemonAnywhere { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Connects to the daemon, or to a new private pool, which lives as long as the second value.
pub fn pool(reach: &ConnectOptions) -> Result<(Client, Option<PrivatePool>), CommandError> {
    if reach.private {
        let private = PrivatePool::start(reach)?;
        return Ok((private.connect()?, Some(private)));
    }
    if let Some(client) = daemon_if_any(reach)? {
        return Ok((client, None));
    }
    let private = PrivatePool::start(reach)?;
    Ok((private.connect()?, Some(private)))
}

/// Prints that a private pool was started because no daemon runs. Called only after the request was accepted:
/// if a value is refused, that error must be the first line on stderr.
pub fn say_who_draws(reach: &ConnectOptions, private: Option<&PrivatePool>) {
    if private.is_some() && !reach.private && !reach.quiet {
        say::aside("imagepool: no daemon runs; started a private pool for this call");
    }
}
