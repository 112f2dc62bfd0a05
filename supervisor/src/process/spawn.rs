//! Starts workers, daemons, downloads, probes and commands; the only file that starts processes.
//!
//! Workers are started from one thread that never ends, because the kernel sends the parent-death signal when the
//! *thread* that forked has exited. A worker gets its socket as descriptor 0, its segment as 1, a pipe as 2 and no
//! other descriptors: all of ours are close-on-exec.

#![expect(
    clippy::disallowed_methods,
    reason = "this is the file that starts processes"
)]

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{self, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ipc_protocol::arithmetic::Arithmetic;
use ipc_protocol::ids::{Device, Generation};
use ipc_protocol::segment::{Backing, Geometry, Segment, SegmentError};
use ipc_protocol::units::Mebibytes;
use nix::errno::Errno;
use pool::StartFault;
use store::order::{BODY_VARIABLE, ENDPOINT_VARIABLE, FetchOrder, HubSettings};
use tokio::process::{Child, Command};
use tokio::runtime::{self, Handle};
use tokio::time::timeout;

use super::groups::{GroupsReached, WorkerGroup};
use super::memory_limit::MemoryLimit;
use super::reserve::{self, DescriptorReserve};
use super::{children, descendants, programs};
use crate::telemetry;

/// Environment variables that a worker inherits; all others are removed, in particular tokens.
const ENVIRONMENT_KEPT: [&str; 7] = [
    "PATH",
    "LANG",
    "LD_LIBRARY_PATH",
    VISIBLE_GPUS,
    "CUDA_CACHE_PATH",
    "RUST_BACKTRACE",
    "TMPDIR",
];

/// Variables by which a service manager knows the daemon: programs that inherit the rest of the environment do not get
/// these, so that none of them can answer in its place.
const OF_THE_SERVICE: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
];

/// The option of the worker program that leaves it unconfined.
const NO_SANDBOX: &str = "--no-sandbox";

/// The variable from which CUDA reads which GPUs a process may use.
pub const VISIBLE_GPUS: &str = "CUDA_VISIBLE_DEVICES";

/// Added to a worker's score for the out-of-memory killer, which is at most 1000 (proc(5)).
const END_FIRST: &str = "500";

/// Tries of a start that finds no descriptor, although the reserve was whole before it.
const START_TRIES: u32 = 4;
/// How long the worker program may inspect a folder: it reads headers, and at most 1 GiB for digests.
const INSPECTION_MAX: Duration = Duration::from_secs(120);
/// How long it may take to read all weights of a folder.
const VERIFICATION_MAX: Duration = Duration::from_secs(24 * 3600);
/// The end of the error if the worker program reads for too long.
const SLOW_READ: &str = "reading it: is its disk or network there?";

/// A worker to start.
#[derive(Debug)]
pub struct SpawnOrder {
    /// Generation of the worker.
    pub generation: Generation,
    /// Label of the worker, unique on the machine: names the segment and marks the process.
    pub label: String,
    /// Layout of its segment.
    pub geometry: Geometry,
    /// Id of the GPU that it may use, for CUDA; `None` for a worker on the CPU.
    pub gpu: Option<String>,
    /// The device whose worker program is started.
    pub program_of: Device,
    /// Memory of the host that is reserved for it.
    pub reserved: Mebibytes,
}

#[derive(Debug)]
pub struct Spawned {
    /// Generation of the worker.
    pub label: String,
    /// Its process, not yet waited for.
    pub child: Child,
    /// Our end of its socket, non-blocking.
    pub socket: OwnedFd,
    /// Its shared-memory segment.
    pub segment: Segment,
    /// The limit of its memory on the host.
    pub limit: MemoryLimit,
}

/// Why a worker could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The segment could not be created.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The process could not be created.
    #[error("cannot start {}: {source}", program.display())]
    Process {
        /// The program to run.
        program: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// The socket pair could not be created.
    #[error("cannot make a socket pair: {0}")]
    Socket(io::Error),
}

impl SpawnError {
    /// Whether no descriptor was left.
    fn is_out_of_descriptors(&self) -> bool {
        match self {
            Self::Segment(
                SegmentError::NoRoom { source, .. } | SegmentError::Os { source, .. },
            )
            | Self::Process { source, .. }
            | Self::Socket(source) => reserve::is_out_of_descriptors(source),
            Self::Segment(SegmentError::WrongSize { .. } | SegmentError::DoesNotFit { .. }) => {
                false
            }
        }
    }

    /// Returns who is to blame: not the worker and its model, if the daemon lacks resources.
    pub fn fault(&self) -> StartFault {
        if self.is_out_of_descriptors() {
            return StartFault::Descriptors;
        }
        match self {
            Self::Segment(_) | Self::Socket(_) => StartFault::Own,
            Self::Process { source, .. } => match source.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EAGAIN | Errno::ENOMEM) => StartFault::Own,
                Some(_) | None => StartFault::Program,
            },
        }
    }
}

/// Called on the spawn thread with the result of an order.
type Reply = Box<dyn FnOnce(Result<Spawned, SpawnError>) + Send>;

/// Starts workers from a thread that lives as long as the daemon.
#[derive(Debug, Clone)]
pub struct Spawner(mpsc::Sender<(SpawnOrder, Reply)>);

impl Spawner {
    /// Starts the thread. `runtime` waits for the child processes.
    pub fn start(
        origin: WorkerOrigin,
        reserve: DescriptorReserve,
        runtime: Handle,
    ) -> io::Result<Self> {
        let (sender, orders) = mpsc::channel::<(SpawnOrder, Reply)>();
        thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                let _in_runtime = runtime.enter();
                let mut is_scarce = false;
                for (order, reply) in orders {
                    let spawned = spawn_in(&reserve, is_scarce, || origin.spawn(&order));
                    let lacks = |error: &SpawnError| error.is_out_of_descriptors();
                    is_scarce = spawned.as_ref().is_err_and(lacks);
                    reply(spawned);
                }
                // If this thread ended, the kernel would kill every worker; the process ends first.
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
        // Cannot fail: the receiving thread never ends.
        let _ = self.0.send((order, Box::new(reply)));
    }
}

/// Starts a worker with the descriptors of the reserve. If others have taken too many of them, waits until clients have
/// closed some, unless the start before it did so in vain: the starts after it would wait for longer than the pool.
fn spawn_in(
    reserve: &DescriptorReserve,
    is_scarce: bool,
    spawn: impl Fn() -> Result<Spawned, SpawnError>,
) -> Result<Spawned, SpawnError> {
    let spawn = || {
        let _lent = reserve.lend();
        spawn()
    };
    for _ in 1..START_TRIES {
        match spawn() {
            Err(error)
                if error.is_out_of_descriptors() && !is_scarce && reserve.wait_until_whole() => {}
            spawned => return spawned,
        }
    }
    spawn()
}

/// A command for a program that inherits the environment, except what is for the daemon alone.
fn command(program: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    for variable in OF_THE_SERVICE {
        command.env_remove(variable);
    }
    command
}

/// A command for one of our programs that needs no more of the environment than a worker does, and ends with this
/// process.
fn confined(program: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    command
        .env_clear()
        .envs(kept_environment())
        .current_dir("/")
        .args(["--parent", &process::id().to_string()]);
    command
}

/// The same for a program that reads a `path`, which may be relative.
fn reader(program: &Path, option: &str, path: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    command
        .env_clear()
        .envs(kept_environment())
        .arg(option)
        .arg(path)
        .args(["--parent", &process::id().to_string()]);
    command
}

fn kept_environment() -> impl Iterator<Item = (&'static str, OsString)> {
    let value = |name: &'static str| Some((name, std::env::var_os(name)?));
    ENVIRONMENT_KEPT.into_iter().filter_map(value)
}

/// The program, settings and groups that all workers share.
#[derive(Debug)]
pub struct WorkerOrigin {
    /// The program for CPUs.
    pub program: PathBuf,
    /// Back end of their segments.
    pub backing: Backing,
    /// Their control groups.
    pub groups: GroupsReached,
    /// Whether they confine themselves.
    pub sandbox: bool,
}

impl WorkerOrigin {
    fn spawn(&self, order: &SpawnOrder) -> Result<Spawned, SpawnError> {
        let program = &programs::worker_for(&self.program, order.program_of);
        let mut segment = Segment::create(self.backing, &order.label, order.geometry)?;
        // The worker inherits the descriptor. Without a name, no other process can open the segment.
        segment.unname();
        let (ours, theirs) = UnixStream::pair().map_err(SpawnError::Socket)?;
        ours.set_nonblocking(true).map_err(SpawnError::Socket)?;
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(kept_environment())
            .env(descendants::MARK, &order.label)
            // It sees no other GPU, so it opens no context there.
            .envs(order.gpu.as_deref().map(|gpu| (VISIBLE_GPUS, gpu)))
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(segment.handle()?))
            .stderr(Stdio::piped());
        if !self.sandbox {
            command.arg(NO_SANDBOX);
        }
        let child = children::start(|| command.spawn(), Child::id);
        let child = child.map_err(|source| SpawnError::Process {
            program: program.to_owned(),
            source,
        })?;
        let limit = child.id().map_or(MemoryLimit::None, |pid| {
            end_first(pid);
            let group = put_into_group(&self.groups, order, pid);
            MemoryLimit::of(group, order.program_of, pid, order.reserved)
        });
        Ok(Spawned {
            label: order.label.clone(),
            child,
            socket: ours.into(),
            segment,
            limit,
        })
    }
}

/// Makes a worker's process a better victim than others where the machine is out of memory: another worker can take
/// over its job.
fn end_first(pid: u32) {
    // It may have exited already.
    let _ = fs::write(format!("/proc/{pid}/oom_score_adj"), END_FIRST);
}

/// Puts a process into a control group of its own, before it gets the message that tells it what to load.
fn put_into_group(groups: &GroupsReached, order: &SpawnOrder, pid: u32) -> Option<WorkerGroup> {
    let GroupsReached::Made(groups) = groups else {
        return None;
    };
    match groups.put(&order.label, pid, order.reserved) {
        Ok(group) => Some(group),
        Err(error) => {
            telemetry::workers::without_group(pid, &error);
            None
        }
    }
}

/// Runs the worker program to inspect a folder of weights for an arithmetic. Returns its output, or its own error.
/// If `whole` is set, it computes the digest however large the files are.
///
/// # Errors
/// The program could not be started.
pub fn inspect(
    program: &Path,
    folder: &Path,
    family: Option<&str>,
    arithmetic: Arithmetic,
    whole: bool,
) -> io::Result<Result<String, String>> {
    let mut command = reader(program, "--inspect", folder);
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
    answer(command, at_most, SLOW_READ)
}

/// How long a program may take to print its version.
const VERSION_MAX: Duration = Duration::from_secs(10);

/// Runs one of our programs to print its version. Returns its output, or its own error.
///
/// # Errors
/// The program could not be started.
pub fn version_of(program: &Path) -> io::Result<Result<String, String>> {
    let mut command = std::process::Command::new(program);
    command.arg("--version");
    answer(command, VERSION_MAX, "printing its version")
}

/// Runs the worker program to confine itself as a worker does. Returns how far that is, or its own error.
///
/// # Errors
/// The program could not be started.
pub fn sandbox_of(program: &Path) -> io::Result<Result<String, String>> {
    let mut command = confined(program);
    command.arg("--sandbox");
    answer(command, VERSION_MAX, "confining itself")
}

/// Runs the worker program to compare weights with their digests: those in a folder, or of the embedded model with
/// this key. Returns a line per file, or its own error about the first damaged file.
///
/// # Errors
/// The program could not be started.
pub fn verify(program: &Path, what: &Path) -> io::Result<Result<String, String>> {
    let command = reader(program, "--verify", what);
    answer(command, VERIFICATION_MAX, SLOW_READ)
}

/// Runs the daemon's program to ask the GPU driver's library, which may hang; `library` replaces the usual one.
/// Returns the line it prints. The environment is a worker's, so that both see the same GPUs. It does not confine itself: the
/// first use of the driver after a boot may run the driver's own program, which loads the module and makes the devices. It
/// reads no file of a user.
///
/// # Errors
/// The program could not be started.
pub fn probe_gpus(
    program: &Path,
    library: Option<&Path>,
    at_most: Duration,
) -> io::Result<Result<String, String>> {
    let mut command = confined(program);
    command.arg("--probe-gpus");
    if let Some(library) = library {
        command.arg("--library").arg(library);
    }
    answer(
        command,
        at_most,
        "asking the GPU driver: does `nvidia-smi` answer?",
    )
}

/// Runs a program to its end and returns its output. If it fails, returns its text on stderr. After `at_most` kills
/// it and returns an error that ends with `doing`.
fn answer(
    command: std::process::Command,
    at_most: Duration,
    doing: &str,
) -> io::Result<Result<String, String>> {
    // A separate runtime on a separate thread: the caller may be a task of another runtime, and the child
    // is killed when the thread that started it exits.
    let waiting = thread::Builder::new().spawn(move || {
        let mut command = Command::from(command);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let child = children::start(|| command.spawn(), Child::id)?;
            Ok(timeout(at_most, child.wait_with_output()).await)
        })
    })?;
    let waited: io::Result<_> = waiting.join().expect("nothing in it panics");
    let Ok(output) = waited? else {
        let seconds = at_most.as_secs_f64();
        return Ok(Err(format!("no answer within {seconds} s of {doing}")));
    };
    let output = output?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr).trim().to_owned()),
    })
}

/// The stdin of a command that the shell runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandInput {
    /// That of the shell.
    Inherited,
    /// At its end already.
    Empty,
}

/// Runs a program in the foreground of this process's terminal, and waits for its end.
///
/// # Errors
/// The process cannot be started.
pub fn run_in_foreground(
    program: &Path,
    arguments: &[OsString],
    input: CommandInput,
) -> io::Result<ExitStatus> {
    let stdin = match input {
        CommandInput::Inherited => Stdio::inherit(),
        CommandInput::Empty => Stdio::null(),
    };
    let mut command = std::process::Command::new(program);
    command.args(arguments).stdin(stdin).status()
}

/// Runs an operator's program about a device, whose name is in `$IMAGEPOOL_DEVICE`. Returns its output, or its text on
/// stderr if it fails.
///
/// # Errors
/// The program could not be started.
pub fn run_hook(
    program: &str,
    arguments: &[String],
    device: Device,
    at_most: Duration,
) -> io::Result<Result<String, String>> {
    let mut command = command(Path::new(program));
    command
        .args(arguments)
        .env("IMAGEPOOL_DEVICE", device.placement())
        .env(descendants::HOOK_MARK, "1")
        .current_dir("/");
    answer(command, at_most, "running it: does it end by itself?")
}

/// Runs the fetch program to send a POST request with this JSON. Returns its text on stderr if that fails.
///
/// # Errors
/// The program could not be started.
pub fn call(
    program: &Path,
    url: &str,
    body: Option<&str>,
    at_most: Duration,
) -> io::Result<Result<String, String>> {
    let mut command = confined(program);
    command.args(["--call", url]);
    if let Some(body) = body {
        // In the environment: other users can read arguments.
        command.env(BODY_VARIABLE, body);
    }
    answer(command, at_most, "calling it")
}

/// A private daemon, which serves one caller and exits when the caller's end of its leash closes.
#[derive(Debug)]
pub struct PrivateDaemon {
    pub child: std::process::Child,
    /// Closing this ends the daemon, which sends one byte when it serves.
    pub leash: UnixStream,
}

/// Starts a private daemon.
///
/// # Errors
/// The socket pair or the process could not be created.
pub fn spawn_private_daemon(
    program: &Path,
    runtime_dir: &Path,
    verbose: bool,
) -> io::Result<PrivateDaemon> {
    let (leash, theirs) = UnixStream::pair()?;
    let mut command = command(program);
    command
        .arg("--leashed")
        .arg("--runtime-dir")
        .arg(runtime_dir)
        .args(["--log-level", if verbose { "info" } else { "warn" }])
        .stdin(Stdio::from(OwnedFd::from(theirs)));
    // Ctrl-C in a terminal must reach only the command: the daemon exits with it.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let child = command.spawn()?;
    Ok(PrivateDaemon { child, leash })
}

/// Starts the fetch program, which prints one event per line on stdout.
///
/// # Errors
/// The process cannot be started.
pub fn spawn_fetch(
    program: &Path,
    order: &FetchOrder,
    hub: &HubSettings,
) -> io::Result<std::process::Child> {
    let mut command = command(program);
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
    // In the environment: other users can read arguments, and an address may contain a password.
    match &hub.endpoint {
        Some(endpoint) => command.env(ENDPOINT_VARIABLE, endpoint),
        None => command.env_remove(ENDPOINT_VARIABLE),
    };
    children::start(|| command.spawn(), |child| Some(child.id()))
}

/// Starts the program that sends the spans on its stdin to the collector at `endpoint`, and reports on its stdout.
///
/// # Errors
/// The process cannot be started.
pub fn spawn_exporter(program: &Path, endpoint: &str) -> io::Result<std::process::Child> {
    // It needs no token.
    let mut command = confined(program);
    command
        .args(["--export-spans", endpoint])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    children::start(|| command.spawn(), |child| Some(child.id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_takes_too_long_is_killed_with_an_error() {
        let mut command = std::process::Command::new("sleep");
        command.arg("600");
        let said = answer(command, Duration::from_millis(50), "sleeping").expect("it starts");
        let why = said.expect_err("no answer");
        assert_eq!(why, "no answer within 0.05 s of sleeping");
    }

    #[test]
    fn missing_resources_of_the_daemon_are_not_the_programs_fault() {
        let failed = |errno: Errno| SpawnError::Process {
            program: "worker".into(),
            source: errno.into(),
        };
        for errno in [Errno::EMFILE, Errno::ENFILE] {
            assert_eq!(failed(errno).fault(), StartFault::Descriptors, "{errno}");
        }
        for errno in [Errno::EAGAIN, Errno::ENOMEM] {
            assert_eq!(failed(errno).fault(), StartFault::Own, "{errno}");
        }
        for errno in [Errno::ENOENT, Errno::EACCES, Errno::ENOEXEC] {
            assert_eq!(failed(errno).fault(), StartFault::Program, "{errno}");
        }
    }
}
