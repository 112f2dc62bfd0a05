//! The sockets of the HTTP door: a Unix socket always, TCP on request.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use interprocess::local_socket::tokio::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::caller::Peer;
use super::connection;
use super::context::HttpContext;
use super::encoder::FileEncoder;
use super::forms::JobForms;
use super::picture_files::PictureFiles;
use super::policy::{HttpPolicy, SharedPolicy};
use super::routes;
use super::tokens::{self, TokenTable};
use crate::api::jobs::store::{JobStore, ResultLimits};
use crate::api::places::{ClientPlaces, ClientUser};
use crate::api::rights::Operators;
use crate::api::socket_file::{FolderKeeper, SocketFile};
use crate::clock::Clock;
use crate::config::http::{HttpAddress, HttpConfig};
use crate::driver::handle::Handle;
use crate::process::reserve::is_out_of_descriptors;
use crate::telemetry::doors;

/// File of the Unix socket, beside `pool.sock`.
pub const SOCKET: &str = "http.sock";
/// Most clients at a time; further ones wait in the kernel's queue.
const CLIENTS_MAX: usize = 1024;
/// How long to wait after a client could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The HTTP door, open and not serving yet.
#[derive(Debug)]
pub struct HttpDoor {
    unix: SocketFile,
    tcp: Vec<TcpListener>,
    policy: SharedPolicy,
    /// The file of the token that this daemon made.
    made: Option<PathBuf>,
}

/// The settings that the door needs.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// The section `[http]`.
    pub config: HttpConfig,
    /// Name of the model for requests that name none.
    pub default_model: String,
    /// Whether files say how they were made.
    pub metadata: bool,
    /// Most pixels of a file.
    pub max_pixels: u64,
    /// How long a picture with an address is kept, and how many.
    pub results: ResultLimits,
}

/// Listening sockets of a service manager, which the door takes over instead of binding its own.
#[derive(Debug, Default)]
pub struct PassedHttpSockets {
    /// In place of `http.sock`.
    pub unix: Option<UnixListener>,
    /// In place of `http.listen`.
    pub tcp: Vec<std::net::TcpListener>,
}

impl HttpDoor {
    /// Opens `http.sock` in `folder`, or the other address of the settings, with the permissions `mode`. Sockets that the
    /// service manager has passed replace both.
    ///
    /// # Errors
    /// A socket cannot be created or taken over, or a token cannot be used.
    pub async fn open(
        folder: &Path,
        mode: u32,
        passed: PassedHttpSockets,
        settings: HttpSettings,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let config = &settings.config;
        let path = match &config.address {
            Some(HttpAddress::Unix(path)) => path.clone(),
            Some(HttpAddress::Tcp(_)) | None => folder.join(SOCKET),
        };
        let keeper = match path.parent() == Some(folder) {
            true => FolderKeeper::Daemon,
            false => FolderKeeper::Operator,
        };
        let unix = match passed.unix {
            Some(passed) => SocketFile::adopt(passed, &path, mode),
            None => SocketFile::create(&path, mode, keeper),
        };
        let unix = unix.map_err(|error| not_open(&path.display().to_string(), &error))?;
        let tcp = match &config.address {
            _ if !passed.tcp.is_empty() => passed.tcp.into_iter().map(adopted).collect(),
            Some(HttpAddress::Tcp(address)) => TcpListener::bind(address).await.map_or_else(
                |error| Err(not_open(address, &error)),
                |listener| Ok(vec![listener]),
            ),
            Some(HttpAddress::Unix(_)) | None => Ok(Vec::new()),
        }?;
        let (mut tokens, mut made) = (TokenTable::default(), None);
        if !tcp.is_empty() {
            tokens = TokenTable::load(&config.tokens, folder)?;
            made = config.tokens.is_empty().then(|| folder.join(tokens::FILE));
        }
        let policy = HttpPolicy {
            config: config.clone(),
            tokens,
            default_model: settings.default_model.clone(),
            max_pixels: settings.max_pixels,
            metadata: settings.metadata,
            results: settings.results,
        };
        let addresses: Vec<SocketAddr> = addresses(&tcp).collect();
        let policy = SharedPolicy::new(policy, &addresses);
        Ok(Self {
            unix,
            tcp,
            policy,
            made,
        })
    }

    /// The policy of the door, to be replaced at a reload.
    pub fn policy(&self) -> SharedPolicy {
        self.policy.clone()
    }

    /// Accepts clients until the loop ends; returns when every connection has ended.
    pub async fn serve(
        self,
        handle: Handle,
        jobs: JobStore,
        operators: Operators,
        places: ClientPlaces,
        clock: Clock,
    ) {
        let addresses: Vec<_> = addresses(&self.tcp).collect();
        doors::http_open(self.unix.path(), &addresses, self.made.as_deref());
        let context = Arc::new(HttpContext {
            handle: handle.clone(),
            clock,
            encoder: FileEncoder::new(self.policy.clone()),
            policy: self.policy,
            jobs,
            forms: JobForms::default(),
            files: PictureFiles::new(clock),
        });
        let mut listeners = JoinSet::new();
        let clients = Clients {
            router: routes::router(context),
            handle: handle.clone(),
            accepted: Arc::new(Semaphore::new(CLIENTS_MAX)),
            places,
        };
        listeners.spawn(clients.clone().on_unix(self.unix, operators));
        for tcp in self.tcp {
            listeners.spawn(clients.clone().on_tcp(tcp));
        }
        while listeners.join_next().await.is_some() {}
        if let Some(made) = self.made {
            let _ = std::fs::remove_file(made); // It opens nothing any more.
        }
    }
}

fn not_open(place: &str, error: &io::Error) -> String {
    format!("HTTP door: cannot listen on {place}: {error}")
}

/// Takes over a TCP socket that listens already.
fn adopted(passed: std::net::TcpListener) -> Result<TcpListener, String> {
    let adopt = passed.set_nonblocking(true);
    adopt
        .and_then(|()| TcpListener::from_std(passed))
        .map_err(|error| not_open("the TCP socket of the service manager", &error))
}

/// The addresses that sockets are bound to.
fn addresses(sockets: &[TcpListener]) -> impl Iterator<Item = SocketAddr> {
    sockets.iter().filter_map(|tcp| tcp.local_addr().ok())
}

/// The service that new clients get.
#[derive(Debug, Clone)]
struct Clients {
    router: Router,
    handle: Handle,
    /// Bounds the clients of this door.
    accepted: Arc<Semaphore>,
    /// Bounds those of all doors.
    places: ClientPlaces,
}

impl Clients {
    async fn on_unix(self, mut socket: SocketFile, operators: Operators) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = self.handle.ended() => break,
                Some(_) = connections.join_next() => {}
                () = socket.changed() => socket.mend(),
                (place, arrived) = self.placed(socket.accept()) => match arrived {
                    Ok(stream) => {
                        let ids = stream.peer_creds().map(|creds| Some((creds.euid()?, creds.egid())));
                        let Ok(Some((uid, gid))) = ids else {
                            doors::unknown_client(ids.err().as_ref().map(|error| error as &dyn std::fmt::Display));
                            continue;
                        };
                        let peer = Peer::Unix(operators.rights(uid, gid));
                        connections.spawn(self.clone().converse(stream, ClientUser::Uid(uid), peer, place));
                    }
                    Err(error) => self.pause(&error).await,
                }
            }
        }
        socket.close();
        while connections.join_next().await.is_some() {}
    }

    async fn on_tcp(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = self.handle.ended() => break,
                Some(_) = connections.join_next() => {}
                (place, arrived) = self.placed(listener.accept()) => match arrived {
                    Ok((stream, _)) => {
                        // Events of a stream are short and must not wait for each other.
                        let _ = stream.set_nodelay(true);
                        connections.spawn(self.clone().converse(stream, ClientUser::Tcp, Peer::Tcp, place));
                    }
                    Err(error) => self.pause(&error).await,
                }
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    /// Serves a client if it gets a place among those of all doors.
    async fn converse(
        self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        user: ClientUser,
        peer: Peer,
        _accepted: Option<OwnedSemaphorePermit>,
    ) {
        let operator = matches!(peer, Peer::Unix(rights) if rights.operator);
        let place = self.places.enter_as(user, operator);
        // Places for short questions are for the native door.
        match place.and_then(|place| place.check_long().map(|()| place)) {
            Ok(_place) => {
                let unsent = self.places.unsent();
                connection::serve(stream, peer, self.router, unsent, &self.handle).await;
            }
            Err(none) => {
                let refusal = connection::refusal(&none.to_string());
                let _ = timeout(ACCEPT_PAUSE, stream.write_all(refusal.as_bytes())).await;
            }
        }
    }

    /// Accepts a client when there is a place for it.
    async fn placed<T>(
        &self,
        accepted: impl Future<Output = T>,
    ) -> (Option<OwnedSemaphorePermit>, T) {
        // Fails only if the semaphore is closed, which nobody does.
        let place = Arc::clone(&self.accepted).acquire_owned().await.ok();
        self.handle.reserve().settled().await;
        (place, accepted.await)
    }

    async fn pause(&self, error: &io::Error) {
        doors::not_accepted(error);
        if is_out_of_descriptors(error) {
            self.places.make_room(1);
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}
