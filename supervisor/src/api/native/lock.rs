//! The lock of a runtime folder: one daemon per folder, even if its files are removed.
//!
//! There are two locks. The kernel releases the lock on the file `lock` when the process ends. But the file or
//! its folder can be removed, and then another daemon could lock a new file. So the folder's path is locked too,
//! as the name of an abstract Unix socket, which is in no folder.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen,
    socket, sockopt::PeerCredentials,
};
use nix::unistd::Uid;
use sha2::{Digest, Sha256};
use store::digest::hex;

use crate::telemetry::doors;

/// Attempts to lock the file; an attempt fails if the file is removed before it is locked.
const TRIES_MAX: usize = 16;

/// The lock of a runtime folder. Dropping it, or the end of the process, releases it.
#[derive(Debug)]
pub struct DaemonLock {
    path: PathBuf,
    file: Flock<File>,
    /// The socket that locks the folder's path; `None` if another user has taken its name.
    _path_held: Option<OwnedFd>,
}

impl DaemonLock {
    /// Locks a runtime folder.
    ///
    /// # Errors
    /// `AddrInUse` if another daemon has locked it.
    pub fn take(runtime_dir: &Path) -> io::Result<Self> {
        // The path first: otherwise a new daemon could lock the file while the first one restores it.
        let path_held = hold_path(runtime_dir)?;
        let path = runtime_dir.join("lock");
        Ok(Self {
            file: hold_file(&path)?,
            path,
            _path_held: path_held,
        })
    }

    /// Creates and locks the file again if it was removed or replaced. Returns whether it was.
    ///
    /// # Errors
    /// The file cannot be created, or another process has locked it.
    pub fn restore(&mut self) -> io::Result<bool> {
        if is_at(&self.file, &self.path)? {
            return Ok(false);
        }
        self.file = hold_file(&self.path)?;
        Ok(true)
    }
}

/// Opens and locks a file, and checks that it still has this path.
fn hold_file(path: &Path) -> io::Result<Flock<File>> {
    for _ in 0..TRIES_MAX {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) if is_at(&lock, path)? => return Ok(lock),
            Ok(_) => {}
            Err((_, Errno::EWOULDBLOCK)) => return Err(in_use(path)),
            Err((_, errno)) => return Err(errno.into()),
        }
    }
    let what = format!(
        "{} was removed {TRIES_MAX} times while it was locked",
        path.display()
    );
    Err(io::Error::new(io::ErrorKind::ResourceBusy, what))
}

/// Whether an open file is the one at `path`.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Locks a folder's path: binds an abstract socket name made from it, which the kernel frees with the process.
/// Any user can bind any name, so if another user has taken it, only the file protects the folder: `None`.
fn hold_path(runtime_dir: &Path) -> io::Result<Option<OwnedFd>> {
    let path = fs::canonicalize(runtime_dir)?;
    let digest = hex(&Sha256::digest(path.as_os_str().as_bytes()));
    let own = Uid::effective().as_raw();
    let name = UnixAddr::new_abstract(format!("imagepool/{own}/{digest}").as_bytes())?;
    let held = unix_socket()?;
    match bind(held.as_raw_fd(), &name) {
        Ok(()) => {
            // Each daemon that connects to find the owner leaves one connection in the backlog.
            listen(&held, Backlog::MAXCONN)?;
            Ok(Some(held))
        }
        Err(Errno::EADDRINUSE) => match holder(&name) {
            Ok(uid) if uid == own || uid == 0 => Err(in_use(runtime_dir)),
            Ok(_) | Err(_) => {
                doors::lock_unprotected(runtime_dir);
                Ok(None)
            }
        },
        Err(errno) => Err(errno.into()),
    }
}

/// The user id of the process that has bound a name.
fn holder(name: &UnixAddr) -> nix::Result<u32> {
    let asked = unix_socket()?;
    connect(asked.as_raw_fd(), name)?;
    Ok(getsockopt(&asked, PeerCredentials)?.uid())
}

fn unix_socket() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::Stream, flags, None)
}

fn in_use(path: &Path) -> io::Error {
    let what = format!("another daemon already serves in {}", path.display());
    io::Error::new(io::ErrorKind::AddrInUse, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_in_use(folder: &Path) {
        let refused = DaemonLock::take(folder).expect_err("it is taken");
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse, "{refused}");
    }

    #[test]
    fn a_folder_has_one_daemon_even_if_the_lock_or_the_folder_was_removed() {
        let base = tempfile::tempdir().expect("a temporary folder");
        let folder = base.path().join("run");
        fs::create_dir(&folder).expect("ours");
        let mut lock = DaemonLock::take(&folder).expect("it is free");
        assert_in_use(&folder);
        fs::remove_file(folder.join("lock")).expect("ours");
        assert_in_use(&folder);
        assert!(lock.restore().expect("it is free"), "it was removed");
        assert!(!lock.restore().expect("it is ours"), "it is in its place");
        fs::rename(&folder, base.path().join("old")).expect("ours");
        fs::create_dir(&folder).expect("ours");
        assert_in_use(&folder);
        assert!(
            lock.restore().expect("it is free"),
            "its folder was replaced"
        );
        drop(lock);
        DaemonLock::take(&folder).expect("it was given up");
    }

    #[test]
    fn a_locked_file_of_another_daemon_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("lock");
        let other = hold_file(&path).expect("it is free");
        assert_in_use(folder.path());
        drop(other);
        DaemonLock::take(folder.path()).expect("it was given up");
    }
}
