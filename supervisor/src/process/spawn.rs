//! Starts workers, private daemons and the fetch program; the only file that starts processes.
//!
//! Workers are started from one thread that never ends, because the kernel's parent-death signal fires
//! when the *thread* that forked is gone. A worker gets its socket on descriptor 0, its segment on 1, a
//! pipe on 2 and nothing else: everything of ours is close-on-exec.

#![expect(
    clippy::disallowed_methods,
    reason = "this file is where processes are started"
)]

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ipc_protocol::arithmetic::Arithmetic;
use ipc_protocol::ids::Generation;
use ipc_protocol::segment::{Backing, Geometry, Segment, SegmentError};
use nix::errno::Errno;
use pool::StartFault;
use store::order::{ENDPOINT_VARIABLE, FetchOrder, HubSettings};
use tokio::process::{Child, Command};
use tokio::runtime::{self, Handle};
use tokio::time::timeout;

use super::descendants;

/// Environment that a worker inherits; everything else, tokens above all, stays here.
const ENVIRONMENT_KEPT: [&str; 8] = [
    "PATH",
    "HOME",
    "LANG",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_CACHE_PATH",
    "RUST_BACKTRACE",
    "TMPDIR",
];

/// How long the worker program may look at a folder: it reads headers, and digests at most 1 GiB.
const INSPECTION_MAX: Duration = Duration::from_secs(120);
/// How long it may read all weights of a folder.
const VERIFICATION_MAX: Duration = Duration::from_secs(24 * 3600);

/// A worker to start.
#[derive(Debug)]
pub struct SpawnOrder {
    /// The life it begins.
    pub generation: Generation,
    /// Unique on the machine; names the segment and marks the process.
    pub label: String,
    /// What its segment must hold.
    pub geometry: Geometry,
}

/// A worker that was started.
#[derive(Debug)]
pub struct Spawned {
    /// The order's.
    pub label: String,
    /// The process, not yet waited for.
    pub child: Child,
    /// Our end of its socket, non-blocking.
    pub socket: OwnedFd,
    /// Its memory.
    pub segment: Segment,
}

/// Why a worker could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// No segment for it.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// No process.
    #[error("cannot start {}: {source}", program.display())]
    Process {
        /// What was to run.
        program: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// No socket pair.
    #[error("cannot make a socket pair: {0}")]
    Socket(io::Error),
}

impl SpawnError {
    /// What was in the way: what we lack ourselves says nothing about the worker or its model.
    pub fn fault(&self) -> StartFault {
        match self {
            Self::Segment(_) | Self::Socket(_) => StartFault::Own,
            Self::Process { source, .. } => match source.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EMFILE | Errno::ENFILE | Errno::EAGAIN | Errno::ENOMEM) => {
                    StartFault::Own
                }
                Some(_) | None => StartFault::Program,
            },
        }
    }
}

/// Called on the spawn thread with what became of an order.
type Reply = Box<dyn FnOnce(Result<Spawned, SpawnError>) + Send>;

/// The thread that starts workers. Lives as long as the daemon.
#[derive(Debug, Clone)]
pub struct Spawner(mpsc::Sender<(SpawnOrder, Reply)>);

impl Spawner {
    /// Starts the thread. `runtime` adopts the children.
    pub fn start(program: PathBuf, backing: Backing, runtime: Handle) -> io::Result<Self> {
        let (sender, orders) = mpsc::channel::<(SpawnOrder, Reply)>();
        thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                let _in_runtime = runtime.enter();
                for (order, reply) in orders {
                    reply(spawn_worker(&program, backing, &order));
                }
                // Ending would kill every worker; the process ends first.
                loop {
                    thread::park();
                }
            })?;
        Ok(Self(sender))
    }

    /// Starts a worker; `reply` runs on the spawn thread.
    pub fn spawn(
        &self,
        order: SpawnOrder,
        reply: impl FnOnce(Result<Spawned, SpawnError>) + Send + 'static,
    ) {
        // The thread never ends, so somebody receives.
        let _ = self.0.send((order, Box::new(reply)));
    }
}

fn spawn_worker(
    program: &Path,
    backing: Backing,
    order: &SpawnOrder,
) -> Result<Spawned, SpawnError> {
    let segment = Segment::create(backing, &order.label, order.geometry)?;
    let (ours, theirs) = UnixStream::pair().map_err(SpawnError::Socket)?;
    ours.set_nonblocking(true).map_err(SpawnError::Socket)?;
    let kept = ENVIRONMENT_KEPT
        .iter()
        .filter_map(|name| std::env::var_os(name).map(|value| (name, value)));
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(kept)
        .env(descendants::MARK, &order.label)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::from(segment.handle()?))
        .stderr(Stdio::piped());
    let child = command.spawn().map_err(|source| SpawnError::Process {
        program: program.to_owned(),
        source,
    })?;
    Ok(Spawned {
        label: order.label.clone(),
        child,
        socket: ours.into(),
        segment,
    })
}

/// Lets the worker program look at a folder of weights that is to be computed so; gives what it printed,
/// or its own sentence. `whole`: with the digest, however large the files are.
///
/// # Errors
/// It could not be started.
pub fn inspect(
    program: &Path,
    folder: &Path,
    family: Option<&str>,
    arithmetic: Arithmetic,
    whole: bool,
) -> io::Result<Result<String, String>> {
    let mut command = std::process::Command::new(program);
    command.arg("--inspect").arg(folder);
    command.args(["--parent", &process::id().to_string()]);
    if whole {
        command.arg("--whole");
    }
    command.args(["--dtype", arithmetic.dtype.word()]);
    command.args(["--encoders", arithmetic.encoders.word()]);
    if let Some(family) = family {
        command.args(["--family", family]);
    }
    let at_most = if whole {
        VERIFICATION_MAX
    } else {
        INSPECTION_MAX
    };
    answer(command, at_most)
}

/// Lets the worker program compare weights with their digests: those of a folder, or of the embedded model
/// with that key. Gives a line per file, or its own sentence about the first that is not what it was.
///
/// # Errors
/// It could not be started.
pub fn verify(program: &Path, what: &Path) -> io::Result<Result<String, String>> {
    let mut command = std::process::Command::new(program);
    command.arg("--verify").arg(what);
    command.args(["--parent", &process::id().to_string()]);
    answer(command, VERIFICATION_MAX)
}

/// What a program prints that ends by itself; its sentence on stderr where it does not end well, and one of
/// ours where it takes longer than `at_most`, which ends it.
fn answer(command: std::process::Command, at_most: Duration) -> io::Result<Result<String, String>> {
    // A runtime of its own on a thread of its own: the caller may be a task of another, and the child
    // ends with the thread that started it.
    let waiting = thread::Builder::new().spawn(move || {
        let mut command = Command::from(command);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async { Ok(timeout(at_most, command.output()).await) })
    })?;
    let waited: io::Result<_> = waiting.join().expect("nothing in it panics");
    let Ok(output) = waited? else {
        let seconds = at_most.as_secs();
        return Ok(Err(format!(
            "reading it took longer than {seconds} s: is its disk or network there?"
        )));
    };
    let output = output?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr).trim().to_owned()),
    })
}

/// A daemon for one call: it serves in `runtime_dir` and leaves when our end of its leash closes.
#[derive(Debug)]
pub struct PrivateDaemon {
    /// The process.
    pub child: std::process::Child,
    /// Closing this ends the daemon; it says one byte when it serves.
    pub leash: UnixStream,
}

/// Starts a private daemon.
///
/// # Errors
/// No socket pair, no process.
pub fn spawn_private_daemon(
    program: &Path,
    runtime_dir: &Path,
    verbose: bool,
) -> io::Result<PrivateDaemon> {
    let (leash, theirs) = UnixStream::pair()?;
    let mut command = std::process::Command::new(program);
    command
        .arg("--leashed")
        .arg("--runtime-dir")
        .arg(runtime_dir)
        .args(["--log-level", if verbose { "info" } else { "warn" }])
        .stdin(Stdio::from(OwnedFd::from(theirs)));
    // A terminal's Ctrl-C is for the command: the daemon leaves when the command does.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let child = command.spawn()?;
    Ok(PrivateDaemon { child, leash })
}

/// Starts the fetch program, which prints one event a line on its stdout.
///
/// # Errors
/// The process cannot be started.
pub fn spawn_fetch(
    program: &Path,
    order: &FetchOrder,
    hub: &HubSettings,
) -> io::Result<std::process::Child> {
    let mut command = std::process::Command::new(program);
    command
        .arg(order.release.key)
        .args(["--variant", order.variant.name])
        // One argument: a revision may begin with a hyphen.
        .arg(format!("--revision={}", order.revision))
        .arg("--folder")
        .arg(&hub.folder)
        .args(["--patience", &hub.patience.as_secs_f64().to_string()])
        .args(["--parent", &process::id().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    if hub.offline {
        command.arg("--offline");
    }
    // Other users can read arguments, and an address may hold a password.
    match &hub.endpoint {
        Some(endpoint) => command.env(ENDPOINT_VARIABLE, endpoint),
        None => command.env_remove(ENDPOINT_VARIABLE),
    };
    command.spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_takes_too_long_is_ended_and_the_sentence_says_so() {
        let mut command = std::process::Command::new("sleep");
        command.arg("600");
        let said = answer(command, Duration::from_millis(50)).expect("it starts");
        assert!(said.expect_err("no answer").contains("took longer than"));
    }

    #[test]
    fn what_we_lack_ourselves_is_not_the_programs_fault() {
        let failed = |errno: Errno| SpawnError::Process {
            program: "worker".into(),
            source: errno.into(),
        };
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::EAGAIN, Errno::ENOMEM] {
            assert_eq!(failed(errno).fault(), StartFault::Own, "{errno}");
        }
        for errno in [Errno::ENOENT, Errno::EACCES, Errno::ENOEXEC] {
            assert_eq!(failed(errno).fault(), StartFault::Program, "{errno}");
        }
    }
}
