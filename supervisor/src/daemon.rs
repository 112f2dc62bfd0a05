//! One daemon from its lock to its last worker: doors opened, signals heard, leftovers swept.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipc_protocol::folders;
use ipc_protocol::segment::named;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::api::lock::Lock;
use crate::api::rights::Operators;
use crate::api::socket::Door;
use crate::config::paths;
use crate::driver::Driver;
use crate::driver::handle::Handle;
use crate::driver::setup::Setup;
use crate::process::identity::Identity;
use crate::process::leash::Leash;

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
        let lock = Lock::take(&self.runtime_dir).map_err(|error| at(&self.runtime_dir, &error))?;
        sweep(&self.runtime_dir);
        let driver = Driver::new(self.setup)?;
        let door = Door::open(&socket_path, self.socket_mode, lock)
            .map_err(|error| at(&socket_path, &error))?;
        let handle = driver.handle();
        let door = tokio::spawn(door.serve(handle.clone(), Operators::new(self.operators)));
        tokio::spawn(heed_signals(handle.clone()));
        let leashed = self.leash.is_some();
        if let Some(leash) = self.leash {
            let caller_gone = leash.serves()?;
            tokio::spawn(async move {
                caller_gone.await;
                let _ = handle.abandon().await; // An error says that the loop ended before.
            });
        } else {
            tracing::info!(socket = %socket_path.display(), "Serving.");
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
            tracing::warn!(%error, "Cannot clear the runtime folder.");
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

/// Removes what daemons and private pools of this user left when they were killed.
fn sweep(runtime_dir: &Path) {
    let segments = named::sweep(|owner| identity(owner).is_some_and(Identity::is_alive));
    let folders = [runtime_dir.to_owned(), folders::runtime()]
        .iter()
        .map(|base| sweep_private(base))
        .sum::<usize>();
    if segments + folders > 0 {
        tracing::info!(segments, folders, "Swept what killed daemons had left.");
    }
}

/// Removes the folders of dead private pools. In a folder that another user could have made, names may lead
/// to our own files, so nothing is touched there.
fn sweep_private(base: &Path) -> usize {
    let private = base.join(paths::PRIVATE);
    if !paths::is_ours(base) || !paths::is_ours(&private) {
        return 0;
    }
    let entries = std::fs::read_dir(&private).into_iter().flatten().flatten();
    let is_dead = |entry: &std::fs::DirEntry| {
        let owner = entry.file_name().to_str().and_then(identity);
        owner.is_some_and(|owner| !owner.is_alive())
    };
    let swept = entries
        .filter(is_dead)
        .filter(|entry| std::fs::remove_dir_all(entry.path()).is_ok())
        .count();
    // Only an empty folder goes; another private pool may be about to use it.
    let _ = std::fs::remove_dir(&private);
    swept
}

fn identity(name: &str) -> Option<Identity> {
    name.parse().ok()
}

/// SIGTERM and SIGINT drain; the second one cancels. SIGHUP has the files of all models looked at again.
async fn heed_signals(handle: Handle) {
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::hangup()),
    ) else {
        return tracing::error!("Cannot listen for signals.");
    };
    let mut cancel = false;
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {
                if handle.reread().await.is_err() {
                    return; // The loop has ended already.
                }
                continue;
            }
        }
        if handle.drain(cancel).await.is_err() {
            return; // The loop has ended already.
        }
        cancel = true;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The first process of a machine, at a time when it did not start.
    const DEAD: &str = "1-18446744073709551615";

    #[test]
    fn only_what_dead_private_pools_of_ours_left_is_swept() {
        let base = tempfile::tempdir().expect("a temporary folder");
        let private = base.path().join(paths::PRIVATE);
        for name in [DEAD, "notes"] {
            paths::prepare(&private.join(name), 0o600).expect("ours to make");
        }
        let alive = private.join(Identity::own().to_string());
        paths::prepare(&alive, 0o600).expect("ours to make");
        assert_eq!(sweep_private(base.path()), 1);
        assert!(!private.join(DEAD).exists());
        assert!(alive.exists() && private.join("notes").exists());
    }

    #[test]
    fn nothing_is_swept_through_a_link_or_where_others_may_write() {
        let base = tempfile::tempdir().expect("a temporary folder");
        let victim = base.path().join("victim");
        paths::prepare(&victim.join(DEAD), 0o600).expect("ours to make");
        let trap = base.path().join("trap");
        paths::prepare(&trap, 0o600).expect("ours to make");
        std::os::unix::fs::symlink(&victim, trap.join(paths::PRIVATE)).expect("ours");
        assert_eq!(sweep_private(&trap), 0);
        let open = base.path().join("open");
        paths::prepare(&open.join(paths::PRIVATE).join(DEAD), 0o600).expect("ours to make");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(&open, mode).expect("ours");
        assert_eq!(sweep_private(&open), 0);
        assert!(victim.join(DEAD).exists() && open.join(paths::PRIVATE).join(DEAD).exists());
    }
}
