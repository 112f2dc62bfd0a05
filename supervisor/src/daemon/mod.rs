//! One daemon from its lock to its last worker.
//!
//! - [`leash`] ends a private daemon with its caller
//! - `signals` drain it or have it look at files again
//! - `sweep` removes what killed daemons left

pub mod leash;
mod signals;
mod sweep;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::timeout;

use crate::api::native::lock::DaemonLock;
use crate::api::native::socket::Door;
use crate::api::rights::Operators;
use crate::config::paths;
use crate::driver::Driver;
use crate::driver::setup::Setup;
use crate::telemetry;
use leash::Leash;

/// How long clients may take to read their last answers once the loop has ended.
const GOODBYE: Duration = Duration::from_secs(5);

/// Everything a daemon starts with.
#[derive(Debug)]
pub struct Daemon {
    /// What its loop is made of.
    pub setup: Setup,
    /// Where its sockets are.
    pub runtime_dir: PathBuf,
    /// Permissions of the native door's socket.
    pub socket_mode: u32,
    /// Users that may operate it, beside our own and root.
    pub operators: BTreeSet<u32>,
    /// What ends it with its caller, where it serves but one.
    pub leash: Option<Leash>,
}

impl Daemon {
    /// Serves until it is drained.
    ///
    /// # Errors
    /// The runtime folder, the lock or the socket cannot be had, with the reason.
    pub async fn serve(self) -> Result<(), Box<dyn std::error::Error>> {
        paths::prepare(&self.runtime_dir, self.socket_mode)?;
        let socket_path = paths::socket(&self.runtime_dir)?;
        let lock =
            DaemonLock::take(&self.runtime_dir).map_err(|error| at(&self.runtime_dir, &error))?;
        sweep::sweep(&self.runtime_dir);
        let driver = Driver::new(self.setup)?;
        let door = Door::open(&socket_path, self.socket_mode, lock)
            .map_err(|error| at(&socket_path, &error))?;
        let handle = driver.handle();
        let door = tokio::spawn(door.serve(handle.clone(), Operators::new(self.operators)));
        tokio::spawn(signals::heed_signals(handle.clone()));
        let leashed = self.leash.is_some();
        if let Some(leash) = self.leash {
            let caller_gone = leash.serves()?;
            tokio::spawn(async move {
                caller_gone.await;
                let _ = handle.abandon().await; // An error says that the loop ended before.
            });
        } else {
            telemetry::daemon::serving(&socket_path);
        }
        driver.run().await;
        // A client that does not read its last answer within this does without.
        let _ = timeout(GOODBYE, door).await;
        // The door took its socket away; a private folder would stay behind.
        let cleared = match leashed {
            true => std::fs::remove_dir_all(&self.runtime_dir),
            false => Ok(()),
        };
        if let (true, Some(private)) = (leashed, self.runtime_dir.parent()) {
            // Other private pools may still be in there; the last one takes the folder away.
            let _ = std::fs::remove_dir(private);
        }
        if let Err(error) = cleared
            && error.kind() != io::ErrorKind::NotFound
        {
            telemetry::daemon::folder_stays(&error);
        }
        Ok(())
    }
}

/// An error with the path that it is about.
fn at(path: &Path, error: &io::Error) -> io::Error {
    let said = error.to_string();
    match said.contains(&path.display().to_string()) {
        true => io::Error::new(error.kind(), said),
        false => io::Error::new(
            error.kind(),
            format!("cannot use {}: {said}", path.display()),
        ),
    }
}
