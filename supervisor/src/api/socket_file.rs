//! A Unix socket and its file, which is created again if it is removed, unless systemd made it.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use interprocess::local_socket::tokio::{Listener, Stream, prelude::*};
use interprocess::local_socket::{GenericFilePath, ListenerOptions};
use interprocess::os::unix::local_socket::ListenerOptionsExt;
use interprocess::os::unix::uds_local_socket::tokio::Listener as UnixSocketListener;

use super::folder_watch::FolderWatch;
use super::runtime_folder;
use crate::telemetry::doors;

/// Device and inode of a file.
type FileIdentity = (u64, u64);

/// The one that creates the folder of a socket and keeps other users from changing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FolderKeeper {
    /// The daemon: it is the runtime folder.
    Daemon,
    /// The operator, who chose it in the settings, or the service manager.
    Operator,
}

/// A listening Unix socket, and its file.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    mode: u32,
    keeper: FolderKeeper,
    listener: Listener,
    /// Identity of the socket file of `listener`; `None` if the service manager made it, who also removes it.
    identity: Option<FileIdentity>,
    /// `None` if the kernel gives no watch; then removed files are not noticed.
    watch: Option<FolderWatch>,
    /// The last logged error about a removed file.
    trouble: Option<String>,
}

impl SocketFile {
    /// Creates the socket, in place of a file that a dead daemon left. Dropping it leaves its file, which another daemon
    /// may have replaced.
    ///
    /// # Errors
    /// The socket cannot be created.
    pub fn create(path: &Path, mode: u32, keeper: FolderKeeper) -> io::Result<Self> {
        let (listener, identity) = listen(path, mode)?;
        let socket = Self::watched(path, mode, listener, Some(identity));
        Ok(Self { keeper, ..socket })
    }

    /// Takes over a socket that listens already, and whose file belongs to the service manager: it is neither created
    /// again nor removed here. `path` and `mode` are used if it tells none.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn adopt(passed: UnixListener, path: &Path, mode: u32) -> io::Result<Self> {
        let address = passed.local_addr()?;
        let path = address.as_pathname().unwrap_or(path);
        let listener = UnixSocketListener::try_from(OwnedFd::from(passed))?;
        Ok(Self::watched(path, mode, listener.into(), None))
    }

    fn watched(path: &Path, mode: u32, listener: Listener, identity: Option<FileIdentity>) -> Self {
        let watch = FolderWatch::start(folder_of(path));
        if let Err(error) = &watch {
            doors::unwatched(error);
        }
        Self {
            path: path.to_owned(),
            mode,
            keeper: FolderKeeper::Operator,
            listener,
            identity,
            watch: watch.ok(),
            trouble: None,
        }
    }

    /// The file of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The permissions of the file.
    pub fn mode(&self) -> u32 {
        self.mode
    }

    /// The folder of the file.
    pub fn folder(&self) -> &Path {
        folder_of(&self.path)
    }

    /// Waits for the next client.
    ///
    /// # Errors
    /// The kernel's: no descriptor is left, for example.
    pub async fn accept(&self) -> io::Result<Stream> {
        self.listener.accept().await
    }

    /// Waits for a change in the folder of the file.
    pub async fn changed(&self) {
        match &self.watch {
            Some(watch) => watch.changed().await,
            None => std::future::pending().await,
        }
    }

    /// Watches the folder that now has the path of the file's, before its content is examined.
    ///
    /// # Errors
    /// The kernel gives no watch.
    pub fn watch_again(&mut self) -> io::Result<()> {
        self.watch.as_mut().map_or(Ok(()), FolderWatch::renew)
    }

    /// Whether this socket's own file is missing or was replaced.
    fn is_missing(&self) -> bool {
        let own = self.identity;
        own.is_some_and(|own| identity(&self.path).ok() != Some(own))
    }

    /// Creates the socket again if its file is not there any more. Returns whether it was not.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn restore(&mut self) -> io::Result<bool> {
        if !self.is_missing() {
            return Ok(false);
        }
        let (listener, identity) = listen(&self.path, self.mode)?;
        (self.listener, self.identity) = (listener, Some(identity));
        Ok(true)
    }

    /// Creates the socket again if its file is gone, and logs it; logs an error once.
    pub fn mend(&mut self) {
        let trouble = match self.restored() {
            Ok(restored) => {
                if restored {
                    doors::restored(&self.path);
                }
                None
            }
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = &trouble
            && trouble != self.trouble
        {
            doors::http_unreachable(&self.path, error);
        }
        self.trouble = trouble;
    }

    /// Creates what is missing. Returns whether anything was.
    fn restored(&mut self) -> Result<bool, Box<dyn std::error::Error>> {
        let mut restored = false;
        loop {
            // Watch first, so that a removal during the check is noticed.
            self.watch_again()?;
            if self.identity.is_none() {
                return Ok(false);
            }
            let was_there = self.folder().exists();
            match self.keeper {
                FolderKeeper::Daemon => runtime_folder::keep(self.folder(), self.mode)?,
                // Its return is a change that comes here again.
                FolderKeeper::Operator if !was_there => return Ok(restored),
                FolderKeeper::Operator => {}
            }
            let bound = self.restore()?;
            if was_there && !bound {
                return Ok(restored);
            }
            restored = true;
        }
    }

    /// Removes the file, unless another daemon has replaced it or the service manager made it.
    pub fn close(&self) {
        if self.identity.is_none() || self.is_missing() {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            doors::socket_stays(&self.path, &error);
        }
    }
}

fn listen(path: &Path, mode: u32) -> io::Result<(Listener, FileIdentity)> {
    let listener = ListenerOptions::new()
        .name(path.to_fs_name::<GenericFilePath>()?)
        .mode(mode as nix::libc::mode_t)
        .try_overwrite(true)
        .reclaim_name(false)
        .create_tokio()?;
    // The umask has removed bits of the mode: until here fewer users than wanted may connect.
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok((listener, identity(path)?))
}

fn identity(path: &Path) -> io::Result<FileIdentity> {
    let there = fs::symlink_metadata(path)?;
    Ok((there.dev(), there.ino()))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}
