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

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use interprocess::local_socket::prelude::*;
use interprocess::local_socket::{GenericFilePath, Stream};

use crate::connection::{self, ConnectionError};
use crate::failure::Failure;
use crate::folders;
use crate::ids::JobId;
use crate::messages::client::{
    Accepted, CHUNK_BYTES_MAX, Fetching, FromPool, JobReport, ToPool, Told, Verb,
};
use crate::request::ImageRequest;
use crate::status::StatusReport;
use crate::units::PictureSize;
use crate::version::{PROTOCOL, mismatch};

/// The reason why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon answers at the socket.
    #[error("no daemon answers at {}: {source}", path.display())]
    NoDaemon {
        /// The socket.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// No socket was given, and no daemon answers at the usual paths.
    #[error("no daemon answers at {}", places.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or "))]
    NoDaemonAnywhere {
        /// The sockets that were tried.
        places: Vec<PathBuf>,
    },
    /// Another user could have created this socket. Nothing was sent to it.
    #[error(
        "the socket {} is not trusted: {why}; nothing was sent to it; have it removed, or name the daemon's socket with --socket or $IMAGEPOOL_SOCKET",
        path.display()
    )]
    NotTrusted {
        /// The socket.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// The daemon speaks another protocol version.
    #[error("{}", mismatch(*theirs))]
    OtherVersion {
        /// Its protocol version.
        theirs: u32,
    },
    /// The daemon refused the connection or the request.
    #[error(transparent)]
    Refused(#[from] Failure),
    /// The connection broke, or the daemon sent bytes that are not a frame.
    #[error("the connection to the daemon broke: {0}")]
    Broken(#[from] ConnectionError),
    /// The daemon sent a message that is not allowed at this point.
    #[error("the daemon sent an unexpected message: {0}")]
    Unexpected(String),
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.into())
    }
}

/// One connection to a daemon.
#[derive(Debug)]
pub struct Client {
    stream: Arc<Stream>,
    /// The build version of the daemon.
    pub version: String,
    /// The process id of the daemon.
    pub pid: u32,
}

impl Client {
    /// Connects to a daemon at this path. A path that the caller gives is trusted.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        Self::greet(stream(path)?)
    }

    /// Connects to the first daemon that answers at the usual paths, [`folders::sockets`].
    ///
    /// # Errors
    /// `NotTrusted` if another user could have made one of the sockets and no other daemon answers;
    /// `NoDaemonAnywhere` if there is no daemon.
    pub fn connect_to_any() -> Result<Self, ClientError> {
        let places = folders::sockets();
        let mut refused = None;
        for path in &places {
            match Self::connect_trusted(path) {
                Err(ClientError::NoDaemon { .. }) => {}
                Err(error @ ClientError::NotTrusted { .. }) => {
                    refused.get_or_insert(error);
                }
                other => return other,
            }
        }
        Err(refused.unwrap_or(ClientError::NoDaemonAnywhere { places }))
    }

    /// Connects to a socket at a usual path. Sends nothing before the server's user was checked.
    fn connect_trusted(path: &Path) -> Result<Self, ClientError> {
        let not_trusted = |why| ClientError::NotTrusted {
            path: path.to_owned(),
            why,
        };
        let servers = folders::servers(path).map_err(|source| ClientError::NoDaemon {
            path: path.to_owned(),
            source,
        })?;
        let servers = servers.map_err(not_trusted)?;
        let stream = stream(path)?;
        // The path may have been replaced since the check; the peer's credentials are certain.
        match stream.peer_creds()?.euid() {
            Some(uid) if servers.include(uid) => Self::greet(stream),
            Some(uid) => Err(not_trusted(format!("user {uid} serves there"))),
            None => Err(not_trusted(
                "the kernel does not report the peer's user".into(),
            )),
        }
    }

    fn greet(stream: Stream) -> Result<Self, ClientError> {
        let sent = connection::write(&mut &stream, &ToPool::Hello { protocol: PROTOCOL });
        // A daemon that accepts no clients sends a refusal and closes, possibly before it reads our hello.
        let answer = connection::read(&mut &stream).or_else(|error| sent.and(Err(error)));
        match answer? {
            FromPool::Hello { protocol, .. } if protocol != PROTOCOL => {
                Err(ClientError::OtherVersion { theirs: protocol })
            }
            FromPool::Hello { version, pid, .. } => Ok(Self {
                stream: Arc::new(stream),
                version,
                pid,
            }),
            FromPool::Refused(failure) => Err(failure.into()),
            other => Err(unexpected(&other)),
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

    /// Like [`Client::generate`], and calls `fetching` with the progress of the model's files.
    ///
    /// # Errors
    /// `Refused` when the request did not become a job.
    pub fn generate_told(
        &mut self,
        request: &ImageRequest,
        mut fetching: impl FnMut(&Fetching),
    ) -> Result<Drawing<'_>, ClientError> {
        request.check()?;
        connection::write(&mut &*self.stream, &ToPool::Generate(request.clone()))?;
        loop {
            match connection::read(&mut &*self.stream)? {
                FromPool::Fetching(far) => fetching(&far),
                FromPool::Accepted(accepted) => {
                    return Ok(Drawing {
                        unanswered: if request.detached { 0 } else { accepted.count },
                        accepted,
                        stream: &self.stream,
                        arriving: BTreeMap::new(),
                    });
                }
                FromPool::Refused(failure) => return Err(failure.into()),
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// A handle that cancels jobs from another thread while this one waits for updates.
    pub fn canceller(&self) -> Canceller {
        Canceller(Arc::clone(&self.stream))
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
                other => return Err(unexpected(&other)),
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
                other => return Err(unexpected(&other)),
            }
        }
    }
}

impl Client {
    /// Waits until the daemon's process has ended. Uses a pidfd of the peer if the kernel supports it
    /// (Linux 6.5), otherwise the end of the connection.
    pub fn wait_for_end(self) -> Result<(), ClientError> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use nix::sys::socket::{getsockopt, sockopt::PeerPidfd};
        let Stream::UdSocket(socket) = &*self.stream;
        let process = getsockopt(socket, PeerPidfd).ok();
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

/// Cancels jobs on a connection that another thread reads from.
#[derive(Debug, Clone)]
pub struct Canceller(Arc<Stream>);

impl Canceller {
    /// Asks the daemon to cancel a job. The job's answer arrives with the updates.
    pub fn cancel(&self, job: JobId) -> Result<(), ClientError> {
        Ok(connection::write(&mut &*self.0, &ToPool::Cancel { job })?)
    }
}

/// The updates of a request as they arrive. Ends after every job has its answer.
#[derive(Debug)]
pub struct Drawing<'a> {
    /// The jobs of the request.
    pub accepted: Accepted,
    stream: &'a Stream,
    unanswered: u32,
    arriving: BTreeMap<JobId, Vec<u8>>,
}

/// One update about a request.
#[derive(Debug, Clone)]
pub enum Update {
    /// A job waits.
    Waiting {
        /// The job.
        job: JobId,
        /// Position in the queue, from 1.
        position: u32,
        /// The reason.
        reason: String,
    },
    /// A job's model is being loaded.
    Loading {
        /// The job.
        job: JobId,
        /// Progress from 0 to 1.
        fraction: f32,
    },
    /// A job finished a step.
    Step {
        /// The job.
        job: JobId,
        /// The finished step, from 1.
        step: u32,
        /// Total number of steps.
        steps: u32,
        /// Milliseconds since the attempt began.
        elapsed_ms: u32,
    },
    /// A preview of a job's picture after a step, if the request asks for previews; a slow client misses some.
    Preview {
        /// The job.
        job: JobId,
        /// Size of the preview, one pixel per latent value.
        size: PictureSize,
        /// Rows from the top, three bytes per pixel.
        rgb8: Vec<u8>,
    },
    /// The finished picture, as the job's only answer.
    Picture(Box<Picture>),
    /// The failure, as the job's only answer.
    Failed {
        /// The job.
        job: JobId,
        /// The reason.
        failure: Failure,
    },
}

/// A finished picture.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The job that made it.
    pub job: JobId,
    /// The picture's place in the request, from 0.
    pub index: u32,
    /// Size of the picture.
    pub size: PictureSize,
    /// Rows from the top, three bytes per pixel.
    pub rgb8: Vec<u8>,
    /// Worker, seed and times of the job.
    pub report: JobReport,
}

impl Drawing<'_> {
    fn next_update(&mut self) -> Result<Update, ClientError> {
        loop {
            return Ok(match connection::read(&mut &*self.stream)? {
                FromPool::Waiting {
                    job,
                    position,
                    reason,
                } => Update::Waiting {
                    job,
                    position,
                    reason,
                },
                FromPool::Loading { job, permille } => Update::Loading {
                    job,
                    fraction: f32::from(permille) / 1000.0,
                },
                FromPool::Step {
                    job,
                    step,
                    steps,
                    elapsed_ms,
                } => Update::Step {
                    job,
                    step,
                    steps,
                    elapsed_ms,
                },
                FromPool::Image {
                    job,
                    size,
                    preview: true,
                    len,
                    ..
                } => self.preview(job, size, len)?,
                FromPool::Image {
                    job,
                    size,
                    offset,
                    len,
                    ..
                } => {
                    self.receive(job, size, offset, len)?;
                    continue;
                }
                FromPool::Finished { job, report } => self.finish(job, report)?,
                FromPool::Failed { job, failure } => {
                    self.unanswered -= 1;
                    Update::Failed { job, failure }
                }
                other => return Err(unexpected(&other)),
            });
        }
    }

    /// Reads the raw bytes of a preview. They all follow one `Image` frame, so there are at most `CHUNK_BYTES_MAX`.
    fn preview(&mut self, job: JobId, size: PictureSize, len: u32) -> Result<Update, ClientError> {
        let whole = self.accepted.size;
        let is_larger = size.width > whole.width || size.height > whole.height;
        if is_larger || u64::from(len) != size.rgb8_bytes() || len > CHUNK_BYTES_MAX {
            return Err(ClientError::Unexpected(format!(
                "{len} bytes of a {size} preview"
            )));
        }
        let mut rgb8 = vec![0; len as usize];
        (&mut &*self.stream).read_exact(&mut rgb8)?;
        Ok(Update::Preview { job, size, rgb8 })
    }

    /// Reads the raw bytes after an `Image` frame. Every bound is checked against the accepted size.
    fn receive(
        &mut self,
        job: JobId,
        size: PictureSize,
        offset: u64,
        len: u32,
    ) -> Result<(), ClientError> {
        let whole = self.accepted.size.rgb8_bytes();
        let arriving = self.arriving.entry(job).or_default();
        let in_place = offset == arriving.len() as u64
            && len <= CHUNK_BYTES_MAX
            && offset + u64::from(len) <= whole
            && size == self.accepted.size;
        if !in_place {
            return Err(ClientError::Unexpected(format!(
                "{len} bytes at {offset} of a {size} picture"
            )));
        }
        let begin = arriving.len();
        arriving.resize(begin + len as usize, 0);
        (&mut &*self.stream).read_exact(&mut arriving[begin..])?;
        Ok(())
    }

    fn finish(&mut self, job: JobId, report: JobReport) -> Result<Update, ClientError> {
        let rgb8 = self.arriving.remove(&job).unwrap_or_default();
        let index = job.0.checked_sub(self.accepted.first.0);
        let (Some(index), true) = (
            index.filter(|index| *index < u64::from(self.accepted.count)),
            rgb8.len() as u64 == self.accepted.size.rgb8_bytes(),
        ) else {
            return Err(ClientError::Unexpected(format!(
                "job {job} finished with {} bytes",
                rgb8.len()
            )));
        };
        self.unanswered -= 1;
        Ok(Update::Picture(Box::new(Picture {
            job,
            index: index as u32,
            size: self.accepted.size,
            rgb8,
            report,
        })))
    }
}

impl Iterator for Drawing<'_> {
    type Item = Result<Update, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.unanswered == 0 {
            return None;
        }
        let update = self.next_update();
        if update.is_err() {
            self.unanswered = 0;
        }
        Some(update)
    }
}

fn stream(path: &Path) -> Result<Stream, ClientError> {
    let no_daemon = |source| ClientError::NoDaemon {
        path: path.to_owned(),
        source,
    };
    let name = path.to_fs_name::<GenericFilePath>().map_err(no_daemon)?;
    Stream::connect(name).map_err(no_daemon)
}

fn unexpected(message: &FromPool) -> ClientError {
    ClientError::Unexpected(format!("{message:?}"))
}
