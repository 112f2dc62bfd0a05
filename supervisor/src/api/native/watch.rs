//! Notices that something in a folder was removed, replaced or made, by the kernel's notices.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::net::unix::pipe::Receiver;

/// Bytes of notices that are read at once; more than the longest has.
const NOTICES_BYTES: usize = 4096;

/// Watches one folder, and the one above it while it is not there.
#[derive(Debug)]
pub struct FolderWatch {
    inotify: Inotify,
    /// The same, for the runtime: it is read like a pipe.
    notices: Receiver,
    folder: PathBuf,
}

impl FolderWatch {
    /// Watches from now on.
    ///
    /// # Errors
    /// The kernel gives no more watches to this user.
    pub fn start(folder: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let notices = inotify.as_fd().try_clone_to_owned()?;
        let watch = Self {
            inotify,
            notices: Receiver::from_owned_fd_unchecked(notices)?,
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
        let flags = names | itself | AddWatchFlags::IN_ONLYDIR | AddWatchFlags::IN_DONT_FOLLOW;
        if self.inotify.add_watch(&self.folder, flags).is_err() {
            let above = self.folder.parent().unwrap_or(Path::new("/"));
            // Once: the folder itself is watched again when it is back.
            let once = names | AddWatchFlags::IN_ONESHOT | AddWatchFlags::IN_ONLYDIR;
            self.inotify.add_watch(above, once)?;
        }
        Ok(())
    }

    /// Waits until something happened since the last time.
    pub async fn changed(&self) {
        loop {
            if self.notices.readable().await.is_err() {
                // Without a runtime the daemon is ending.
                return std::future::pending().await;
            }
            let mut notices = [0; NOTICES_BYTES];
            let mut heard = false;
            // What happened is looked for; the notices only say that something did.
            while self.notices.try_read(&mut notices).is_ok() {
                heard = true;
            }
            if heard {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_folder_that_is_emptied_removed_and_made_again_is_noticed() {
        let base = tempfile::tempdir().expect("a temporary folder");
        let folder = base.path().join("run");
        fs::create_dir(&folder).expect("ours");
        fs::write(folder.join("lock"), "").expect("ours");
        let watch = FolderWatch::start(&folder).expect("the kernel watches");
        fs::remove_file(folder.join("lock")).expect("ours");
        timeout(PATIENCE, watch.changed()).await.expect("noticed");
        fs::remove_dir(&folder).expect("ours");
        timeout(PATIENCE, watch.changed()).await.expect("noticed");
        watch.renew().expect("the folder above is there");
        fs::create_dir(&folder).expect("ours");
        timeout(PATIENCE, watch.changed()).await.expect("noticed");
        watch.renew().expect("it is back");
        fs::write(folder.join("lock"), "").expect("ours");
        timeout(PATIENCE, watch.changed()).await.expect("noticed");
    }
}
