//! Notices changes in a folder, of its path and of mounts, through inotify(7) and proc(5).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe::Receiver;

/// Buffer for inotify events, in bytes; longer than any single event.
const NOTICES_BYTES: usize = 4096;
/// The mounts that this process sees; poll(2) reports a change as priority data (proc(5)).
const MOUNTS: &str = "/proc/self/mountinfo";
/// Events about entries of a folder.
const ENTRIES: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_MOVED_TO);
/// Events about a folder or link itself.
const ITSELF: AddWatchFlags = AddWatchFlags::IN_DELETE_SELF.union(AddWatchFlags::IN_MOVE_SELF);

/// Watches a folder, every folder and link on its path, and the mounts. While the folder is missing, watches for it in the
/// lowest folder of its path that exists.
#[derive(Debug)]
pub struct FolderWatch {
    inotify: Inotify,
    /// The same descriptor, for tokio, which reads it like a pipe.
    notices: Receiver,
    /// `None` if this kernel does not report changes of mounts.
    mounts: Option<AsyncFd<File>>,
    folder: PathBuf,
    watched: BTreeSet<WatchDescriptor>,
}

impl FolderWatch {
    /// Starts to watch.
    ///
    /// # Errors
    /// This user has reached the kernel's limit of watches.
    pub fn start(folder: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let notices = inotify.as_fd().try_clone_to_owned()?;
        let mut watch = Self {
            inotify,
            notices: Receiver::from_owned_fd_unchecked(notices)?,
            mounts: mounts().ok(),
            folder: folder.to_owned(),
            watched: BTreeSet::new(),
        };
        watch.renew()?;
        Ok(watch)
    }

    /// Watches the folders that now are on this path.
    ///
    /// # Errors
    /// This user has reached the kernel's limit of watches.
    pub fn renew(&mut self) -> io::Result<()> {
        let mut watched = BTreeSet::new();
        for above in above(&self.folder) {
            // The folder that the name leads to, and the name itself if it is a link.
            watched.extend(self.add(&above, ITSELF | AddWatchFlags::IN_ONLYDIR)?);
            watched.extend(self.add(&above, ITSELF | AddWatchFlags::IN_DONT_FOLLOW)?);
        }
        let folder = ENTRIES | ITSELF | AddWatchFlags::IN_ATTRIB;
        let folder = folder | AddWatchFlags::IN_ONLYDIR | AddWatchFlags::IN_DONT_FOLLOW;
        match self.add(&self.folder, folder)? {
            Some(folder) => _ = watched.insert(folder),
            None => watched.extend(self.await_folder()?),
        }
        for outdated in self.watched.difference(&watched) {
            // EINVAL: the kernel has ended it with its folder.
            let _ = self.inotify.rm_watch(*outdated);
        }
        self.watched = watched;
        Ok(())
    }

    /// Watches the lowest folder of the path that exists, for the name that is missing there.
    fn await_folder(&self) -> io::Result<Option<WatchDescriptor>> {
        // One event is enough: then the path is watched again.
        let once = ENTRIES | ITSELF | AddWatchFlags::IN_ATTRIB;
        let once = once | AddWatchFlags::IN_ONESHOT | AddWatchFlags::IN_ONLYDIR;
        for above in self.folder.ancestors().skip(1) {
            if let Some(watch) = self.add(above, once)? {
                return Ok(Some(watch));
            }
        }
        Ok(None)
    }

    /// Adds a watch; `None` if the path is missing, has another type or cannot be read.
    fn add(&self, path: &Path, events: AddWatchFlags) -> io::Result<Option<WatchDescriptor>> {
        match self.inotify.add_watch(path, events) {
            Ok(watch) => Ok(Some(watch)),
            Err(errno @ (Errno::ENOSPC | Errno::ENOMEM)) => Err(errno.into()),
            Err(_) => Ok(None),
        }
    }

    /// Waits for a change since the last call.
    pub async fn changed(&self) {
        tokio::select! {
            () = self.noticed() => {}
            () = self.mounted() => {}
        }
    }

    /// Waits for an event of inotify.
    async fn noticed(&self) {
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

    /// Waits until something is mounted or unmounted.
    async fn mounted(&self) {
        let Some(mounts) = &self.mounts else {
            return std::future::pending().await;
        };
        match mounts.ready(Interest::PRIORITY).await {
            Ok(mut change) => change.clear_ready(),
            // The runtime is shutting down.
            Err(_) => std::future::pending().await,
        }
    }
}

/// The table of mounts, for tokio.
#[expect(
    deprecated,
    reason = "a file keeps its descriptor as long as it lives, which is what the newer function asks for"
)]
fn mounts() -> io::Result<AsyncFd<File>> {
    AsyncFd::with_interest(File::open(MOUNTS)?, Interest::PRIORITY)
}

/// The paths above a folder, both as they are written and without links.
fn above(folder: &Path) -> BTreeSet<PathBuf> {
    let mut above: BTreeSet<PathBuf> = folder.ancestors().skip(1).map(Path::to_owned).collect();
    let real = folder
        .parent()
        .and_then(|parent| fs::canonicalize(parent).ok());
    above.extend(
        real.iter()
            .flat_map(|real| real.ancestors())
            .map(Path::to_owned),
    );
    above
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
        let mut watch = FolderWatch::start(&folder).expect("the kernel watches");
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
    #[tokio::test]
    async fn renamed_folders_and_links_on_the_path_are_noticed() {
        let base = tempfile::tempdir().expect("a temporary folder");
        let real = base.path().join("real");
        let link = base.path().join("link");
        fs::create_dir_all(real.join("a/run")).expect("ours");
        std::os::unix::fs::symlink(&real, &link).expect("ours");
        let mut watch = FolderWatch::start(&link.join("a/run")).expect("the kernel watches");
        let watched = watch.watched.len();
        let rename: [(&Path, &Path); 6] = [
            (&real.join("a"), &real.join("b")),
            (&real.join("b"), &real.join("a")),
            (&real, &base.path().join("old")),
            (&base.path().join("old"), &real),
            (&link, &base.path().join("link-old")),
            (&base.path().join("link-old"), &link),
        ];
        for (from, to) in rename {
            fs::rename(from, to).expect("ours");
            let noticed = timeout(PATIENCE, watch.changed()).await;
            noticed.unwrap_or_else(|_| panic!("{} is noticed", from.display()));
            watch.renew().expect("the kernel watches");
            // What the renewal itself ended may be reported too.
            let _ = timeout(Duration::from_millis(50), watch.changed()).await;
        }
        assert_eq!(watch.watched.len(), watched, "outdated watches are ended");
    }
}
