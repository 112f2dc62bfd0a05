//! A blocking client for programs on the same machine.
//!
//! ```no_run
//! use ipc_protocol::client::{Client, Update};
//! use ipc_protocol::request::ImageRequest;
//!
//! let mut client = Client::connect_to_any()?;
//! for update in client.generate(&ImageRequest::new("a red circle on a white background"))? {
//!     if let Update::Picture(picture) = update? {
//!         println!("{} bytes of RGB8", picture.rgb8.len());
//!     }
//! }
//! # Ok::<(), ipc_protocol::client::ClientError>(())
//! ```

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use interprocess::local_socket::prelude::*;
use interprocess::local_socket::{GenericFilePath, Stream};

use crate::connection::{self, ConnectionError};
use crate::event::EventReport;
use crate::folders;
use crate::ids::JobId;
use crate::job::JobStatus;
use crate::listing::ListingPart;
use crate::log::{LogLines, LogRequest};
use crate::messages::client::{
    Accepted, AvailableModel, Fetching, FromPool, PromptTexts, Target, ToPool, Told, Verb,
};
use crate::obituary::Obituary;
use crate::reconnect::{self, DaemonPlace, SharedConnection};
use crate::request::ImageRequest;
use crate::status::StatusReport;
use crate::version::PROTOCOL;

pub use crate::client_error::ClientError;
pub use crate::drawing::{Drawing, Picture, Update};
pub use crate::listing::DaemonListing;
pub use crate::reconnect::{Canceller, PATIENCE};

/// One connection to a daemon.
#[derive(Debug)]
pub struct Client {
    pub(crate) stream: Arc<Stream>,
    pub(crate) shared: Arc<SharedConnection>,
    place: DaemonPlace,
    patience: Duration,
    /// The build version of the daemon.
    pub version: String,
    /// The process id of the daemon.
    pub pid: u32,
}

/// News of a request before its jobs exist.
#[derive(Debug)]
pub enum Prelude<'a> {
    /// The files of its model are fetched.
    Fetching(&'a Fetching),
    /// The daemon ended, and the client waits for the next one.
    DaemonLost,
}

impl Client {
    /// Connects to a daemon at this path. A path that the caller gives is trusted.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let place = || DaemonPlace::At(path.to_owned());
        reconnect::greeted(|| Self::greet(stream(path)?, place()))
    }

    /// Changes how long this client waits for a daemon after the connection ended without an answer to a request. Then it
    /// sends the request again, with the seed that was chosen for it, so that the picture is the same. Zero: not at all.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Connects to the first daemon that answers at the usual paths, [`folders::sockets`].
    ///
    /// # Errors
    /// `NotTrusted` if another user could have made one of the sockets, and `NotAdmitted` if one is for other users, and no
    /// other daemon answers;
    /// `NoDaemonAnywhere` if there is no daemon.
    pub fn connect_to_any() -> Result<Self, ClientError> {
        reconnect::greeted(|| Self::connect_to_any_within(None))
    }

    /// The same; a daemon may take this long to answer.
    fn connect_to_any_within(most: Option<Duration>) -> Result<Self, ClientError> {
        let places = folders::sockets();
        let mut refused = None;
        for path in &places {
            match Self::connect_trusted(path, most) {
                Err(ClientError::NoDaemon { .. }) => {}
                Err(error @ (ClientError::NotTrusted { .. } | ClientError::NotAdmitted { .. })) => {
                    refused.get_or_insert(error);
                }
                other => return other,
            }
        }
        Err(refused.unwrap_or(ClientError::NoDaemonAnywhere { places }))
    }

    /// Connects to a socket at a usual path. Sends nothing before the server's user was checked.
    fn connect_trusted(path: &Path, most: Option<Duration>) -> Result<Self, ClientError> {
        let not_trusted = |why| ClientError::NotTrusted {
            path: path.to_owned(),
            why,
        };
        let servers = folders::servers(path).map_err(|error| no_daemon(path, error))?;
        let servers = servers.map_err(not_trusted)?;
        let stream = stream(path)?;
        reconnect::bound_reads(&stream, most)?;
        // The path may have been replaced since the check; the peer's credentials are certain.
        match stream.peer_creds()?.euid() {
            Some(uid) if servers.include(uid) => Self::greet(stream, DaemonPlace::Usual),
            Some(uid) => Err(not_trusted(format!("user {uid} serves there"))),
            None => Err(not_trusted(
                "the kernel does not report the peer's user".into(),
            )),
        }
    }

    fn greet(stream: Stream, place: DaemonPlace) -> Result<Self, ClientError> {
        let sent = connection::write(&mut &stream, &ToPool::Hello { protocol: PROTOCOL });
        // A daemon that accepts no clients sends a refusal and closes, possibly before it reads our hello.
        let answer = connection::read(&mut &stream).or_else(|error| sent.and(Err(error)));
        match answer? {
            FromPool::Hello { protocol, .. } if protocol != PROTOCOL => {
                Err(ClientError::OtherVersion { theirs: protocol })
            }
            FromPool::Hello { version, pid, .. } => {
                let stream = Arc::new(stream);
                Ok(Self {
                    shared: Arc::new(SharedConnection::new(Arc::clone(&stream))),
                    stream,
                    place,
                    patience: PATIENCE,
                    version,
                    pid,
                })
            }
            FromPool::Refused(failure) => Err(failure.into()),
            other => Err(ClientError::unexpected(&other)),
        }
    }

    /// Sends a request and returns its updates. If the model's files are missing, the daemon fetches them
    /// first, and this call waits for that.
    ///
    /// # Errors
    /// `Refused` when the request did not become a job.
    pub fn generate(&mut self, request: &ImageRequest) -> Result<Drawing<'_>, ClientError> {
        self.generate_told(request, |_| {})
    }

    /// Like [`Client::generate`], and calls `told` with news before the jobs exist.
    ///
    /// # Errors
    /// `Refused` when the request did not become a job.
    pub fn generate_told(
        &mut self,
        request: &ImageRequest,
        mut told: impl FnMut(Prelude<'_>),
    ) -> Result<Drawing<'_>, ClientError> {
        request.check()?;
        let mut accepted = self.ask(request, &mut told);
        if let Err(error) = &accepted
            && self.may_reconnect(error)
        {
            if request.detached {
                return Err(ClientError::Unanswered);
            }
            told(Prelude::DaemonLost);
            accepted = self.ask_again(request, &mut told);
        }
        Ok(Drawing::of_request(accepted?, self, request))
    }

    /// Sends a request and waits until it has become jobs.
    fn ask(
        &self,
        request: &ImageRequest,
        told: &mut dyn FnMut(Prelude<'_>),
    ) -> Result<Accepted, ClientError> {
        connection::write(&mut &*self.stream, &ToPool::Generate(request.clone()))?;
        loop {
            match connection::read(&mut &*self.stream)? {
                FromPool::Fetching(far) => told(Prelude::Fetching(&far)),
                FromPool::Accepted(accepted) => {
                    self.shared.note_jobs(accepted.first, accepted.count);
                    return Ok(accepted);
                }
                FromPool::Refused(failure) => return Err(failure.into()),
                other => return Err(ClientError::unexpected(&other)),
            }
        }
    }

    /// Whether this client waits for another daemon after an error.
    pub(crate) fn may_reconnect(&self, error: &ClientError) -> bool {
        reconnect::is_lost(error) && !self.patience.is_zero() && !self.shared.is_given_up()
    }

    /// Connects again and sends the request, until a daemon has answered it.
    pub(crate) fn ask_again(
        &mut self,
        request: &ImageRequest,
        told: &mut dyn FnMut(Prelude<'_>),
    ) -> Result<Accepted, ClientError> {
        self.reconnected(|client| client.ask(request, told))
    }

    /// Connects again and asks for a job, until a daemon has answered.
    pub(crate) fn wait_again(&mut self, job: JobId) -> Result<Accepted, ClientError> {
        let told = &mut |_: Prelude<'_>| {};
        self.reconnected(|client| client.follow(job, told).map(|(_, accepted)| accepted))
    }

    fn reconnected<T>(
        &mut self,
        mut ask: impl FnMut(&Self) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let (shared, patience) = (Arc::clone(&self.shared), self.patience);
        reconnect::until_connected(
            |pause| shared.pause(pause),
            patience,
            |left| {
                let again = match &self.place {
                    DaemonPlace::At(path) => {
                        let stream = stream(path)?;
                        // A service manager may hold the socket before its daemon reads from it.
                        reconnect::bound_reads(&stream, Some(left))?;
                        Self::greet(stream, self.place.clone())?
                    }
                    DaemonPlace::Usual => Self::connect_to_any_within(Some(left))?,
                };
                reconnect::bound_reads(&again.stream, None)?;
                shared.replace(Arc::clone(&again.stream));
                (self.stream, self.version, self.pid) = (again.stream, again.version, again.pid);
                ask(self)
            },
        )
    }

    /// Follows a job of an earlier request, from its first recorded update to its answer, and returns its prompt.
    /// Calls `told` with news before the values of the job are known. Dropping the connection does not cancel the job.
    ///
    /// # Errors
    /// `Refused` if there is no such job of this user, or if its picture is not kept any longer.
    pub fn wait(
        &mut self,
        job: JobId,
        mut told: impl FnMut(Prelude<'_>),
    ) -> Result<(PromptTexts, Drawing<'_>), ClientError> {
        let mut followed = self.follow(job, &mut told);
        if let Err(error) = &followed
            && self.may_reconnect(error)
        {
            told(Prelude::DaemonLost);
            followed = self.reconnected(|client| client.follow(job, &mut told));
        }
        let (texts, accepted) = followed?;
        Ok((texts, Drawing::of_job(accepted, self, job)))
    }

    /// Asks for a job and waits until its values are known.
    fn follow(
        &self,
        job: JobId,
        told: &mut dyn FnMut(Prelude<'_>),
    ) -> Result<(PromptTexts, Accepted), ClientError> {
        connection::write(&mut &*self.stream, &ToPool::Wait { job })?;
        let mut texts = PromptTexts::default();
        loop {
            match connection::read(&mut &*self.stream)? {
                FromPool::Texts(of_job) => texts = of_job,
                FromPool::Fetching(far) => told(Prelude::Fetching(&far)),
                FromPool::Accepted(accepted) => return Ok((texts, accepted)),
                FromPool::Refused(failure) => return Err(failure.into()),
                other => return Err(ClientError::unexpected(&other)),
            }
        }
    }

    /// Lists this user's jobs that are not answered yet, and its detached ones that ended; for an operator, the
    /// jobs of all users.
    pub fn jobs(&mut self) -> Result<Vec<JobStatus>, ClientError> {
        connection::write(&mut &*self.stream, &ToPool::Jobs)?;
        let listing = DaemonListing::new(&self.stream, |message| match message {
            FromPool::Job(job) => ListingPart::Next(*job),
            FromPool::JobsEnd => ListingPart::End,
            other => ListingPart::Other(Box::new(other)),
        });
        listing.collect()
    }

    /// Requests the end of a log, and with `follow` its further lines.
    ///
    /// # Errors
    /// The first entry is `Refused` if there is no such worker, or if this user may not read it.
    pub fn tail(
        &mut self,
        request: LogRequest,
    ) -> Result<DaemonListing<'_, LogLines>, ClientError> {
        connection::write(&mut &*self.stream, &ToPool::Tail(request))?;
        Ok(DaemonListing::new(&self.stream, |message| match message {
            FromPool::Log(lines) => ListingPart::Next(lines),
            FromPool::LogEnd => ListingPart::End,
            other => ListingPart::Other(Box::new(other)),
        }))
    }

    /// Requests the newest events of the pool, and with `follow` further ones.
    pub fn events(&mut self, follow: bool) -> Result<DaemonListing<'_, EventReport>, ClientError> {
        connection::write(&mut &*self.stream, &ToPool::Events { follow })?;
        Ok(DaemonListing::new(&self.stream, |message| match message {
            FromPool::Event(event) => ListingPart::Next(event),
            FromPool::EventsEnd => ListingPart::End,
            other => ListingPart::Other(Box::new(other)),
        }))
    }

    /// Lists the models of the daemon's settings file, and whether the daemon uses them.
    ///
    /// # Errors
    /// `Refused` if the file is invalid; the message names the file and the fault.
    pub fn available(&mut self) -> Result<Vec<AvailableModel>, ClientError> {
        connection::write(&mut &*self.stream, &ToPool::Available)?;
        let mut models = Vec::new();
        loop {
            match connection::read(&mut &*self.stream)? {
                FromPool::Available(part) => {
                    models.extend(part.models);
                    if !part.more {
                        return Ok(models);
                    }
                }
                FromPool::Refused(failure) => return Err(failure.into()),
                other => return Err(ClientError::unexpected(&other)),
            }
        }
    }

    /// Returns the obituaries of workers, at most `most`, newest first.
    pub fn obituaries(&mut self, of: Target, most: u32) -> Result<Vec<Obituary>, ClientError> {
        connection::write(&mut &*self.stream, &ToPool::Obituaries { of, most })?;
        let listing = DaemonListing::new(&self.stream, |message| match message {
            FromPool::Obituary(obituary) => ListingPart::Next(*obituary),
            FromPool::ObituariesEnd => ListingPart::End,
            other => ListingPart::Other(Box::new(other)),
        });
        listing.collect()
    }

    /// A handle that cancels jobs from another thread while this one waits for updates.
    pub fn canceller(&self) -> Canceller {
        Canceller(Arc::clone(&self.shared))
    }

    /// Requests the status report of the pool.
    pub fn status(&mut self) -> Result<StatusReport, ClientError> {
        connection::write(&mut &*self.stream, &ToPool::Status)?;
        let mut parts = Vec::new();
        loop {
            match connection::read(&mut &*self.stream)? {
                FromPool::Status(crate::status::StatusPart::End) => break,
                FromPool::Status(part) => parts.push(part),
                FromPool::Refused(failure) => return Err(failure.into()),
                other => return Err(ClientError::unexpected(&other)),
            }
        }
        StatusReport::from_parts(parts).ok_or_else(|| {
            ClientError::Unexpected("a status report without its supervisor part".into())
        })
    }

    /// Sends an operator's command and returns the result, line by line.
    pub fn operate(&mut self, verb: Verb) -> Result<Told, ClientError> {
        connection::write(&mut &*self.stream, &ToPool::Operate(verb))?;
        let mut lines = Vec::new();
        loop {
            match connection::read(&mut &*self.stream)? {
                FromPool::Told(part) => {
                    lines.extend(part.lines);
                    if !part.more {
                        let (success, more) = (part.success, false);
                        return Ok(Told {
                            lines,
                            success,
                            more,
                        });
                    }
                }
                FromPool::Refused(failure) => return Err(failure.into()),
                other => return Err(ClientError::unexpected(&other)),
            }
        }
    }
}

impl Client {
    /// Waits until the daemon's process has ended. Uses a pidfd of the peer if the kernel supports it
    /// (Linux 6.5), otherwise the end of the connection; also if the peer is the service manager that opened the socket.
    pub fn wait_for_end(self) -> Result<(), ClientError> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use nix::sys::socket::{getsockopt, sockopt::PeerPidfd};
        let Stream::UdSocket(socket) = &*self.stream;
        let peer = self.stream.peer_creds()?.pid();
        let is_the_daemon = peer.and_then(|pid| u32::try_from(pid).ok()) == Some(self.pid);
        let process = getsockopt(socket, PeerPidfd).ok();
        let process = process.filter(|_| is_the_daemon);
        loop {
            match connection::read::<FromPool>(&mut &*self.stream) {
                Ok(_) => {}
                Err(ConnectionError::Closed | ConnectionError::Io(_)) => break,
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(process) = process {
            let mut waits = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
            poll(&mut waits, PollTimeout::NONE).map_err(io::Error::from)?;
        }
        Ok(())
    }
}

fn stream(path: &Path) -> Result<Stream, ClientError> {
    let name = path.to_fs_name::<GenericFilePath>();
    name.and_then(Stream::connect)
        .map_err(|error| no_daemon(path, error))
}

/// The error if a socket cannot be opened: there is no daemon, or it is for others.
fn no_daemon(path: &Path, source: io::Error) -> ClientError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::PermissionDenied => ClientError::NotAdmitted {
            group: folders::group_of(&path),
            path,
        },
        _ => ClientError::NoDaemon { path, source },
    }
}
