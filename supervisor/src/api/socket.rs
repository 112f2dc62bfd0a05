//! The native door: a Unix socket that only its own user may open, and the lock that decides who opens it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use interprocess::local_socket::tokio::{Listener, prelude::*};
use interprocess::local_socket::{GenericFilePath, ListenerOptions};
use interprocess::os::unix::local_socket::ListenerOptionsExt;
use nix::fcntl::{Flock, FlockArg};
use tokio::task::JoinSet;

use super::conversation;
use crate::driver::handle::Handle;

/// The right to serve in a runtime folder; it is given up when the process ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not looked at")] Flock<File>);

/// Takes the runtime folder's lock.
///
/// # Errors
/// `AddrInUse` when a daemon serves there.
pub fn lock(runtime_dir: &Path) -> io::Result<Lock> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(runtime_dir.join("lock"))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Lock(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("a daemon serves in {} already", runtime_dir.display()),
        )),
        Err((_, errno)) => Err(errno.into()),
    }
}

/// Opens the door. Whoever holds the lock may replace a socket that a dead daemon left.
pub fn open(path: &Path, mode: u32, _lock: &Lock) -> io::Result<Listener> {
    ListenerOptions::new()
        .name(path.to_fs_name::<GenericFilePath>()?)
        .mode(mode as nix::libc::mode_t)
        .try_overwrite(true)
        .create_tokio()
}

/// Lets clients in until the loop ends, and returns when each of them has read what it was owed.
pub async fn serve(listener: Listener, handle: Handle) {
    let mut conversations = JoinSet::new();
    loop {
        tokio::select! {
            () = handle.ended() => break,
            Some(_) = conversations.join_next() => {}
            arrived = listener.accept() => match arrived {
                Ok(stream) => {
                    conversations.spawn(conversation::converse(stream, handle.clone()));
                }
                Err(error) => {
                    // Most often out of descriptors; running jobs free some.
                    tracing::warn!(%error, "Cannot let a client in.");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
    drop(listener);
    while conversations.join_next().await.is_some() {}
}
