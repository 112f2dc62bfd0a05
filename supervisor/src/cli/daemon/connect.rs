//! Finds the daemon.

use ipc_protocol::client::{Client, ClientError};

use super::private::PrivatePool;
use crate::cli::args::ConnectOptions;
use crate::cli::{CommandError, say};

/// The daemon at the socket that was named, else the first that answers where daemons serve.
///
/// # Errors
/// `NoDaemon` when a named socket does not answer; `NoDaemonAnywhere` or `NotTrusted` when none was named.
pub fn daemon(reach: &ConnectOptions) -> Result<Client, ClientError> {
    match reach.named_socket() {
        Some(path) => Client::connect(&path),
        None => Client::connect_to_any(),
    }
}

/// The daemon, where a private one would be started if there is none: `None` then.
pub fn daemon_if_any(reach: &ConnectOptions) -> Result<Option<Client>, CommandError> {
    match daemon(reach) {
        Ok(client) => Ok(Some(client)),
        Err(ClientError::NoDaemonAnywhere { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What draws: the daemon, or a private pool that lives as long as the second value.
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

/// Says that a pool which nobody asked for draws. Only once a request is accepted: a refused value is the first
/// line on stderr.
pub fn say_who_draws(reach: &ConnectOptions, private: Option<&PrivatePool>) {
    if private.is_some() && !reach.private && !reach.quiet {
        say::aside("imagepool: no daemon runs; a private pool serves this and leaves");
    }
}
