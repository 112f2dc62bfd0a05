//! The socket of the native door; it is created again if its file is removed.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use interprocess::local_socket::tokio::{Stream, prelude::*};
use ipc_protocol::failure::Failure;
use ipc_protocol::messages::client::FromPool;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::conversation::{self, Context};
use super::lock::DaemonLock;
use crate::api::jobs::store::JobStore;
use crate::api::places::{ClientPlace, ClientPlaces, NoPlace};
use crate::api::rights::{ClientRights, Operators};
use crate::api::runtime_folder;
use crate::api::socket_file::{FolderKeeper, SocketFile};
use crate::driver::handle::Handle;
use crate::frames;
use crate::process::reserve::{DescriptorReserve, ReserveState, is_out_of_descriptors};
use crate::telemetry::doors;

/// How long a refused client may take to connect and to read the refusal.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);
/// Lists of jobs that are made at a time, so that they leave time for other questions.
const LISTINGS_MAX: usize = 1;

#[derive(Debug)]
pub struct Door {
    socket: SocketFile,
    lock: DaemonLock,
    /// The last logged error about removed files.
    trouble: Option<String>,
}

impl Door {
    /// Opens the door at `path`, or takes over the socket that the service manager has `passed`. The folder is prepared and
    /// locked, so an existing socket was left by a dead daemon and is replaced.
    ///
    /// # Errors
    /// The socket cannot be created or taken over.
    pub fn open(
        path: &Path,
        mode: u32,
        passed: Option<UnixListener>,
        lock: DaemonLock,
    ) -> io::Result<Self> {
        Ok(Self {
            socket: match passed {
                Some(passed) => SocketFile::adopt(passed, path, mode)?,
                None => SocketFile::create(path, mode, FolderKeeper::Daemon)?,
            },
            lock,
            trouble: None,
        })
    }

    /// Accepts clients until the loop ends; returns when every connection has ended.
    pub async fn serve(
        mut self,
        handle: Handle,
        jobs: JobStore,
        operators: Operators,
        places: ClientPlaces,
    ) {
        let context = Arc::new(Context {
            handle: handle.clone(),
            jobs,
            operators,
            places,
            listings: Semaphore::new(LISTINGS_MAX),
        });
        let mut conversations = JoinSet::new();
        let reserve = handle.reserve();
        let mut state = reserve.follow();
        loop {
            tokio::select! {
                () = handle.ended() => break,
                Some(_) = conversations.join_next() => {}
                () = self.socket.changed() => self.mend(),
                Ok(()) = state.changed() => {
                    if let ReserveState::Short(missing) = *state.borrow_and_update() {
                        context.places.make_room(missing);
                    }
                }
                arrived = self.next_client(reserve) => match arrived {
                    Ok(stream) => {
                        let place = |rights| context.places.enter(rights);
                        if let Some((stream, rights, place)) = admitted(stream, &context, place).await {
                            let context = Arc::clone(&context);
                            let conversation = conversation::converse(stream, rights, place, context);
                            conversations.spawn(conversation);
                        }
                    }
                    Err(error) if is_out_of_descriptors(&error) && reserve.lend_to_door() => {
                        let place = |rights| context.places.enter_scarce(rights);
                        let arrived = timeout(REFUSAL_PATIENCE, self.socket.accept()).await;
                        if let Ok(Ok(stream)) = arrived
                            && let Some((stream, rights, place)) = admitted(stream, &context, place).await
                        {
                            let context = Arc::clone(&context);
                            let conversation = conversation::converse(stream, rights, place, context);
                            conversations.spawn(conversation);
                        }
                        reserve.refill();
                        doors::out_of_descriptors();
                    }
                    Err(error) => {
                        doors::not_accepted(&error);
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        }
        self.socket.close();
        while conversations.join_next().await.is_some() {}
    }

    /// Waits for the next client, and not while a worker is started with the last descriptors.
    async fn next_client(&self, reserve: &DescriptorReserve) -> io::Result<Stream> {
        reserve.settled().await;
        self.socket.accept().await
    }

    /// Restores files that were removed or replaced; logs an error once.
    fn mend(&mut self) {
        let trouble = match self.restored() {
            Ok(restored) => {
                if restored {
                    doors::restored(self.socket.path());
                }
                None
            }
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = &trouble
            && trouble != self.trouble
        {
            doors::unreachable(self.socket.path(), error);
        }
        self.trouble = trouble;
    }

    /// Restores missing files. Returns whether any was missing.
    fn restored(&mut self) -> Result<bool, Box<dyn std::error::Error>> {
        let mut restored = false;
        loop {
            // Watch first, so that a removal during the check is noticed.
            self.socket.watch_again()?;
            let folder = self.socket.folder();
            let was_there = folder.exists();
            runtime_folder::keep(folder, self.socket.mode())?;
            let locked = self.lock.restore()?;
            let bound = self.socket.restore()?;
            if was_there && !locked && !bound {
                return Ok(restored);
            }
            restored = true;
        }
    }
}

/// Gives a client a place. If there is none, refuses it.
async fn admitted(
    stream: Stream,
    context: &Context,
    place: impl FnOnce(ClientRights) -> Result<ClientPlace, NoPlace>,
) -> Option<(Stream, ClientRights, ClientPlace)> {
    let ids = match stream.peer_creds() {
        Ok(creds) => creds.euid().map(|uid| (uid, creds.egid())),
        Err(error) => {
            doors::unknown_client(Some(&error));
            return None;
        }
    };
    let Some((uid, gid)) = ids else {
        doors::unknown_client(None);
        return None;
    };
    let rights = context.operators.rights(uid, gid);
    match place(rights) {
        Ok(place) => Some((stream, rights, place)),
        Err(none) => {
            doors::no_place(&rights.user(), &none);
            // A client that does not read the refusal only sees the disconnect.
            let _ = timeout(REFUSAL_PATIENCE, refuse(&stream, none.into())).await;
            None
        }
    }
}

async fn refuse(stream: &Stream, failure: Failure) {
    // Fails only if the client has disconnected.
    let _ = frames::write_with(&mut &*stream, &FromPool::Refused(failure), &[]).await;
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::config::paths;

    fn door(folder: &Path) -> Door {
        let lock = DaemonLock::take(folder).expect("it is free");
        Door::open(&folder.join("pool.sock"), 0o660, None, lock).expect("our own folder")
    }

    #[tokio::test]
    async fn a_passed_socket_is_neither_created_again_nor_removed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("pool.sock");
        let passed = UnixListener::bind(&path).expect("our own folder");
        let lock = DaemonLock::take(folder.path()).expect("it is free");
        let other = folder.path().join("other.sock");
        let mut door = Door::open(&other, 0o660, Some(passed), lock).expect("it listens");
        assert_eq!(door.socket.path(), path);
        let client = std::os::unix::net::UnixStream::connect(&path).expect("it listens");
        door.socket.accept().await.expect("the client");
        drop(client);
        door.socket.close();
        assert!(path.exists(), "the service manager's");
        fs::remove_file(&path).expect("ours");
        assert!(!door.restored().expect("ours"), "the service manager's");
        assert!(!path.exists() && !other.exists());
    }

    #[tokio::test]
    async fn a_door_removes_its_own_socket_and_no_other() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("pool.sock");
        door(folder.path()).socket.close();
        assert!(!path.exists(), "its own");
        let door = door(folder.path());
        fs::remove_file(&path).expect("ours");
        let other = UnixListener::bind(&path).expect("the name is free");
        door.socket.close();
        drop(door);
        assert!(path.exists(), "another's");
        drop(other);
    }

    #[tokio::test]
    async fn removed_or_replaced_files_are_restored_once() {
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
            .expect_err("a file is not a folder")
            .to_string();
        assert!(
            error.contains("not a folder") || error.contains("cannot use"),
            "{error}"
        );
    }
}
