//! The right to serve in a runtime folder: one daemon a folder, whatever becomes of the names in it.
//!
//! Two locks hold it. The file `lock` is what the kernel frees with the process; but it and its folder can be
//! removed, and then another daemon could lock a new file of that name. So the folder's path is held as
//! well, as a name that is in no folder.

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

use crate::telemetry::doors;

/// Times that a file is locked which was removed meanwhile; somebody removes faster than we lock.
const TRIES_MAX: usize = 16;

/// The lock; it is given up when the process ends.
#[derive(Debug)]
pub struct DaemonLock {
    path: PathBuf,
    file: Flock<File>,
    /// Holds the folder's path; nothing where another user holds our name for it.
    _path_held: Option<OwnedFd>,
}

impl DaemonLock {
    /// Takes the lock of a runtime folder.
    ///
    /// # Errors
    /// `AddrInUse` when a daemon serves there.
    pub fn take(runtime_dir: &Path) -> io::Result<Self> {
        // First, so that a daemon whose file was removed finds it free again when it restores it.
        let path_held = hold_path(runtime_dir)?;
        let path = runtime_dir.join("lock");
        Ok(Self {
            file: hold_file(&path)?,
            path,
            _path_held: path_held,
        })
    }

    /// Locks the file anew where it was removed or replaced; says whether it was.
    ///
    /// # Errors
    /// It cannot be made, or somebody else has locked it.
    pub fn restore(&mut self) -> io::Result<bool> {
        if is_at(&self.file, &self.path)? {
            return Ok(false);
        }
        self.file = hold_file(&self.path)?;
        Ok(true)
    }
}

/// Locks a file that is still the one of that name.
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
    let what = format!("{} is removed again and again", path.display());
    Err(io::Error::new(io::ErrorKind::ResourceBusy, what))
}

/// Whether an open file is the one of this name.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Holds a folder's path as an abstract socket's name, which ends with the process. Any user can hold a
/// name, so one that is held by another user says nothing, and the file alone has to do.
fn hold_path(runtime_dir: &Path) -> io::Result<Option<OwnedFd>> {
    let path = fs::canonicalize(runtime_dir)?;
    let digest = Sha256::digest(path.as_os_str().as_bytes());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let own = Uid::effective().as_raw();
    let name = UnixAddr::new_abstract(format!("imagepool/{own}/{digest}").as_bytes())?;
    let held = unix_socket()?;
    match bind(held.as_raw_fd(), &name) {
        Ok(()) => {
            // Each daemon that asks who holds the name leaves one connection waiting.
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

/// The user of the process that holds a name.
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
    let what = format!("a daemon serves in {} already", path.display());
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
    fn a_folder_has_one_daemon_even_when_the_lock_or_the_folder_was_removed() {
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
    fn a_lock_file_of_another_daemon_is_not_taken_from_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("lock");
        let other = hold_file(&path).expect("it is free");
        assert_in_use(folder.path());
        drop(other);
        DaemonLock::take(folder.path()).expect("it was given up");
    }
}
