//! Notices that something in a folder was removed, replaced or made, by the kernel's notices.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;

/// Watches one folder, and the one above it while it is not there.
#[derive(Debug)]
pub struct FolderWatch {
    kernel: AsyncFd<Kernel>,
    folder: PathBuf,
}

#[derive(Debug)]
struct Kernel(Inotify);

impl AsRawFd for Kernel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl FolderWatch {
    /// Watches from now on.
    ///
    /// # Errors
    /// The kernel gives no more watches to this user.
    pub fn start(folder: &Path) -> io::Result<Self> {
        let kernel = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let watch = Self {
            kernel: AsyncFd::new(Kernel(kernel))?,
            folder: folder.to_owned(),
        };
        watch.renew()?;
        Ok(watch)
    }

    /// Watches the folder that has the name now; while there is none that can be, the one above it.
    ///
    /// # Errors
    /// Neither is there, or the kernel watches no more folders for this user.
    pub fn renew(&self) -> io::Result<()> {
        let names = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO;
        let itself = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        let inotify = &self.kernel.get_ref().0;
        let flags = names | itself | AddWatchFlags::IN_ONLYDIR | AddWatchFlags::IN_DONT_FOLLOW;
        match inotify.add_watch(&self.folder, flags) {
            Err(_) => {
                let above = self.folder.parent().unwrap_or(Path::new("/"));
                // Once: the folder itself is watched again when it is back.
                let once = names | AddWatchFlags::IN_ONESHOT | AddWatchFlags::IN_ONLYDIR;
                inotify.add_watch(above, once)?;
            }
            Ok(_) => {}
        }
        Ok(())
    }

    /// Waits until something happened since the last time.
    pub async fn changed(&self) {
        loop {
            let Ok(mut ready) = self.kernel.readable().await else {
                // Without a runtime the daemon is ending.
                return std::future::pending().await;
            };
            match self.kernel.get_ref().0.read_events() {
                Err(Errno::EAGAIN) => ready.clear_ready(),
                // What happened is looked for; an overrun of notices says that something did.
                Ok(_) | Err(_) => return,
            }
        }
    }
}
