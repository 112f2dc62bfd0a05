//! Notices changes of a folder's entries, through inotify(7).

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::net::unix::pipe::Receiver;

/// Buffer for inotify events, in bytes; longer than any single event.
const NOTICES_BYTES: usize = 4096;

/// Watches a folder, or its parent while the folder is missing.
#[derive(Debug)]
pub struct FolderWatch {
    inotify: Inotify,
    /// The same descriptor, for tokio, which reads it like a pipe.
    notices: Receiver,
    folder: PathBuf,
}

impl FolderWatch {
    /// Starts to watch.
    ///
    /// # Errors
    /// This user has reached the kernel's limit of watches.
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

    /// Watches the folder that now has this path, or its parent if that is impossible.
    ///
    /// # Errors
    /// Both are missing, or this user has reached the kernel's limit of watches.
    pub fn renew(&self) -> io::Result<()> {
        let names = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO;
        let itself = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        let flags = names | itself | AddWatchFlags::IN_ONLYDIR | AddWatchFlags::IN_DONT_FOLLOW;
        if self.inotify.add_watch(&self.folder, flags).is_err() {
            let above = self.folder.parent().unwrap_or(Path::new("/"));
            // One event is enough: then the folder itself is watched again.
            let once = names | AddWatchFlags::IN_ONESHOT | AddWatchFlags::IN_ONLYDIR;
            self.inotify.add_watch(above, once)?;
        }
        Ok(())
    }

    /// Waits for a change since the last call.
    pub async fn changed(&self) {
        loop {
            if self.notices.readable().await.is_err() {
                // Fails only if the runtime is shutting down.
                return std::future::pending().await;
            }
            let mut notices = [0; NOTICES_BYTES];
            let mut heard = false;
            // The content is ignored: the caller checks what has changed.
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
    async fn changes_removal_and_return_of_a_folder_are_noticed() {
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
