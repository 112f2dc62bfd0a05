//! The native door: a Unix socket in a folder of its user's, kept there while the daemon serves.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use interprocess::local_socket::tokio::{Listener, Stream, prelude::*};
use interprocess::local_socket::{GenericFilePath, ListenerOptions};
use interprocess::os::unix::local_socket::ListenerOptionsExt;
use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::messages::client::FromPool;
use nix::errno::Errno;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::conversation::{self, Context};
use super::idle::IdleClients;
use super::lock::DaemonLock;
use super::watch::FolderWatch;
use crate::api::rights::Operators;
use crate::config::paths;
use crate::driver::handle::Handle;
use crate::frames;
use crate::telemetry::doors;

/// How long a client that is turned away may take to come in and hear why.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);

/// A name in the file system: device and inode of what it stands for.
type SocketIdentity = (u64, u64);

/// An open door.
#[derive(Debug)]
pub struct Door {
    path: PathBuf,
    mode: u32,
    listener: Listener,
    /// Of the socket that `listener` is.
    identity: SocketIdentity,
    lock: DaemonLock,
    /// Nothing where the kernel gives no watch; then what becomes of the names is not seen.
    watch: Option<FolderWatch>,
    /// Given up for a moment when there are no descriptors left, to tell a client so.
    reserve: Option<File>,
    /// The last trouble with the names that was told.
    trouble: Option<String>,
}

impl Door {
    /// Opens the door at `path`, whose folder is prepared and whose lock is ours: a socket that is there was
    /// left by a dead daemon.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn open(path: &Path, mode: u32, lock: DaemonLock) -> io::Result<Self> {
        let (listener, identity) = listen(path, mode)?;
        let watch = FolderWatch::start(folder(path));
        if let Err(error) = &watch {
            doors::unwatched(error);
        }
        Ok(Self {
            path: path.to_owned(),
            mode,
            listener,
            identity,
            lock,
            watch: watch.ok(),
            reserve: reserve(),
            trouble: None,
        })
    }

    /// Lets clients in until the loop ends, and returns when each of them has read what it was owed.
    pub async fn serve(mut self, handle: Handle, operators: Operators) {
        let context = Arc::new(Context {
            handle: handle.clone(),
            operators,
            idle: IdleClients::default(),
        });
        let mut conversations = JoinSet::new();
        loop {
            tokio::select! {
                () = handle.ended() => break,
                Some(_) = conversations.join_next() => {}
                () = changed(self.watch.as_ref()) => self.mend(),
                arrived = self.listener.accept() => match arrived {
                    Ok(stream) => {
                        conversations.spawn(conversation::converse(stream, Arc::clone(&context)));
                    }
                    Err(error) if is_out_of_descriptors(&error) && self.reserve.is_some() => {
                        self.turn_away(&context.idle).await;
                    }
                    Err(error) => {
                        doors::not_accepted(&error);
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        }
        self.close();
        while conversations.join_next().await.is_some() {}
    }

    /// Takes the socket's name away, unless it is another's by now.
    fn close(&self) {
        if identity(&self.path).ok() != Some(self.identity) {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            doors::socket_stays(&self.path, &error);
        }
    }

    /// Puts names back that were removed or replaced, and says so once.
    fn mend(&mut self) {
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
            doors::unreachable(&self.path, error);
        }
        self.trouble = trouble;
    }

    /// Puts back what is missing; says whether anything was.
    fn restored(&mut self) -> Result<bool, Box<dyn std::error::Error>> {
        let mut restored = false;
        loop {
            // Watched first: what is removed from now on is noticed.
            if let Some(watch) = &self.watch {
                watch.renew()?;
            }
            let folder = folder(&self.path);
            let was_there = folder.exists();
            paths::prepare(folder, self.mode)?;
            let locked = self.lock.restore()?;
            let bound = identity(&self.path).ok() != Some(self.identity);
            if bound {
                (self.listener, self.identity) = listen(&self.path, self.mode)?;
            }
            if was_there && !locked && !bound {
                return Ok(restored);
            }
            restored = true;
        }
    }

    /// Tells the next client that there are no descriptors for it, and ends a conversation that is idle, so
    /// that those who hold them shut nobody out for ever.
    async fn turn_away(&mut self, idle: &IdleClients) {
        drop(self.reserve.take());
        if let Ok(Ok(stream)) = timeout(REFUSAL_PATIENCE, self.listener.accept()).await {
            // A client that does not listen misses why.
            let _ = timeout(REFUSAL_PATIENCE, refuse(&stream)).await;
        }
        self.reserve = reserve();
        let ended = idle.end_one();
        doors::out_of_descriptors(ended);
    }
}

/// Makes the socket. Its name is not taken away when the listener is dropped: it may be another's by then.
fn listen(path: &Path, mode: u32) -> io::Result<(Listener, SocketIdentity)> {
    let listener = ListenerOptions::new()
        .name(path.to_fs_name::<GenericFilePath>()?)
        .mode(mode as nix::libc::mode_t)
        .try_overwrite(true)
        .reclaim_name(false)
        .create_tokio()?;
    // The umask took bits of the mode away, so until here the socket is open to fewer than it should be.
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok((listener, identity(path)?))
}

fn identity(path: &Path) -> io::Result<SocketIdentity> {
    let there = fs::symlink_metadata(path)?;
    Ok((there.dev(), there.ino()))
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

async fn changed(watch: Option<&FolderWatch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// A descriptor for later; any file will do.
fn reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE))
}

async fn refuse(stream: &Stream) {
    let message = "the daemon has no descriptors left for another client; try again, or raise its limit of open files";
    let failure = Failure::new(FailureKind::QueueFull, message).retry_after_ms(1000);
    // A client that left needs no refusal.
    let _ = frames::write_with(&mut &*stream, &FromPool::Refused(failure), &[]).await;
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn door(folder: &Path) -> Door {
        let lock = DaemonLock::take(folder).expect("it is free");
        Door::open(&folder.join("pool.sock"), 0o660, lock).expect("our own folder")
    }

    #[tokio::test]
    async fn a_door_takes_away_its_own_socket_and_no_other() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("pool.sock");
        door(folder.path()).close();
        assert!(!path.exists(), "its own");
        let door = door(folder.path());
        fs::remove_file(&path).expect("ours");
        let other = UnixListener::bind(&path).expect("the name is free");
        door.close();
        drop(door);
        assert!(path.exists(), "another's");
        drop(other);
    }

    #[tokio::test]
    async fn names_that_were_removed_or_replaced_are_put_back_once() {
        let base = tempfile::tempdir().expect("a temporary folder");
        let folder = base.path().join("run");
        paths::prepare(&folder, 0o660).expect("ours to make");
        let mut door = door(&folder);
        assert!(!door.restored().expect("ours"), "all is in its place");
        let remove: [&dyn Fn() -> io::Result<()>; 4] = [
            &|| fs::remove_file(folder.join("pool.sock")),
            &|| {
                fs::write(base.path().join("x"), "")
                    .and_then(|()| fs::rename(base.path().join("x"), folder.join("pool.sock")))
            },
            &|| fs::remove_file(folder.join("lock")),
            &|| fs::remove_dir_all(&folder),
        ];
        for (number, remove) in remove.into_iter().enumerate() {
            remove().expect("ours");
            assert!(door.restored().expect("ours"), "number {number}");
            assert!(!door.restored().expect("ours"), "number {number}");
            let mode = fs::metadata(folder.join("pool.sock"))
                .expect("it is back")
                .mode();
            assert_eq!(mode & 0o777, 0o660, "number {number}");
        }
        fs::remove_dir_all(&folder).expect("ours");
        fs::write(&folder, "").expect("ours");
        let error = door
            .restored()
            .expect_err("a file is no folder")
            .to_string();
        assert!(
            error.contains("not a folder") || error.contains("cannot use"),
            "{error}"
        );
    }
}
