//! A private pool: a daemon for one call, which exits together with this process.

use std::io::Read;
use std::net::Shutdown;
use std::path::PathBuf;
use std::time::Duration;

use ipc_protocol::client::Client;
use ipc_protocol::folders;

use crate::cli::CommandError;
use crate::cli::args::ConnectOptions;
use crate::config::paths;
use crate::process::identity::Identity;
use crate::process::programs;
use crate::process::spawn::{self, PrivateDaemon};

/// A running private pool. Dropping it stops its daemon and waits until that has exited.
#[derive(Debug)]
pub struct PrivatePool {
    daemon: PrivateDaemon,
    socket: PathBuf,
}

impl PrivatePool {
    /// Starts a private pool and waits until it accepts connections.
    pub fn start(reach: &ConnectOptions) -> Result<Self, CommandError> {
        let failed = |what: &dyn std::fmt::Display| CommandError::Private(what.to_string());
        let base = folders::runtime();
        paths::prepare(&base, 0o600).map_err(|error| failed(&error))?;
        let folder = base.join(paths::PRIVATE).join(Identity::own().to_string());
        let socket = paths::socket(&folder).map_err(|error| failed(&error))?;
        let program = programs::find("supervisor").map_err(|error| failed(&error))?;
        let mut daemon = spawn::spawn_private_daemon(&program, &folder, reach.verbose)
            .map_err(|error| failed(&error))?;
        let mut byte = [0];
        match daemon.leash.read(&mut byte) {
            Ok(1) => Ok(Self { daemon, socket }),
            // The daemon closed the socket: it printed the reason on our stderr, and `wait` reaps it.
            Ok(_) | Err(_) => {
                let end = daemon.child.wait().map_err(|error| failed(&error))?;
                Err(failed(&format!("its daemon exited with {end}")))
            }
        }
    }

    /// Connects to it. No other daemon takes its place.
    pub fn connect(&self) -> Result<Client, CommandError> {
        Ok(Client::connect(&self.socket)?.with_patience(Duration::ZERO))
    }
}

impl Drop for PrivatePool {
    fn drop(&mut self) {
        // Both fail only if the daemon has exited already.
        let _ = self.daemon.leash.shutdown(Shutdown::Both);
        let _ = self.daemon.child.wait();
    }
}
