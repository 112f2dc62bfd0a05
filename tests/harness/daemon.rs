//! A daemon that runs in a sandbox.

use std::os::fd::OwnedFd;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ipc_protocol::client::Client;
use ipc_protocol::status::StatusReport;
use nix::sys::signal::Signal;

use crate::figures::children;
use crate::lines::OutputLines;
use crate::program::{self, Call, PATIENCE, ProgramOutput, RunningProgram};
use crate::record::EventRecord;
use crate::sandbox::Sandbox;
use crate::wait;

/// A running daemon. Dropping it kills it, and checks that its workers go with it.
#[derive(Debug)]
pub struct TestDaemon {
    /// Where it runs.
    pub sandbox: Arc<Sandbox>,
    /// Its stderr, line by line.
    pub stderr: OutputLines,
    running: RunningProgram,
}

impl TestDaemon {
    /// Starts a daemon with these settings and waits until it serves.
    pub fn start(settings: &str) -> Self {
        Self::start_in(Sandbox::new(settings))
    }

    /// Starts a daemon in `sandbox` and waits until it serves.
    pub fn start_in(sandbox: impl Into<Arc<Sandbox>>) -> Self {
        let daemon = Self::start_unready(sandbox);
        daemon.stderr.wait_for("Serving.", 1, PATIENCE);
        daemon
    }

    /// Starts a daemon with these settings that writes every event down, and waits until it serves.
    pub fn start_recorded(settings: &str) -> Self {
        Self::start_recorded_in(Sandbox::new(settings))
    }

    /// Starts a daemon in `sandbox` that writes every event down, and waits until it serves.
    pub fn start_recorded_in(sandbox: impl Into<Arc<Sandbox>>) -> Self {
        let daemon = Self::start_with(sandbox, true);
        daemon.stderr.wait_for("Serving.", 1, PATIENCE);
        daemon
    }

    /// Ends a daemon that writes every event down, and reads what it wrote.
    pub fn recorded(mut self) -> EventRecord {
        self.imagepool(&["shutdown"]).succeeded();
        self.wait();
        EventRecord::read(&self.sandbox.record()).expect("the daemon wrote it")
    }

    /// Starts a daemon in `sandbox`, and waits for nothing.
    pub fn start_unready(sandbox: impl Into<Arc<Sandbox>>) -> Self {
        Self::start_with(sandbox, false)
    }

    /// Starts a daemon with these settings that can open few files, and waits until it serves.
    pub fn start_with_open_files(settings: &str, most: u32) -> Self {
        Self::start_with_open_files_in(Sandbox::new(settings), most)
    }

    /// Starts a daemon in `sandbox` that can open few files, and waits until it serves.
    pub fn start_with_open_files_in(sandbox: Sandbox, most: u32) -> Self {
        let command = program::with_open_files(&Self::command(&sandbox), most);
        let daemon = Self::started(command, sandbox.into());
        daemon.stderr.wait_for("Serving.", 1, PATIENCE);
        daemon
    }

    /// Starts a daemon in `sandbox` in a mount namespace of its own, after `line`, and waits until it serves.
    pub fn start_in_mounts(sandbox: impl Into<Arc<Sandbox>>, line: &str) -> Self {
        let sandbox = sandbox.into();
        let command = program::in_mounts(&Self::command(&sandbox), line);
        let daemon = Self::started(command, sandbox);
        daemon.stderr.wait_for("Serving.", 1, PATIENCE);
        daemon
    }

    /// Starts a daemon in `sandbox` as another user, which only root can, and waits until it serves.
    pub fn start_as(uid: u32, gid: u32, sandbox: impl Into<Arc<Sandbox>>) -> Self {
        let sandbox = sandbox.into();
        let command = program::as_user(Self::command(&sandbox), uid, gid);
        let daemon = Self::started(command, sandbox);
        daemon.stderr.wait_for("Serving.", 1, PATIENCE);
        daemon
    }

    /// Starts a daemon in `sandbox` under a service manager, whose socket `notify` is beside the runtime folder and
    /// whose watchdog has this time in microseconds.
    pub fn start_with_watchdog(sandbox: impl Into<Arc<Sandbox>>, watchdog_us: &str) -> Self {
        let sandbox = sandbox.into();
        let mut command = Self::command(&sandbox);
        let socket = sandbox.runtime_dir().with_file_name("notify");
        command
            .env("NOTIFY_SOCKET", socket)
            .env("WATCHDOG_USEC", watchdog_us);
        Self::started(command, sandbox)
    }

    /// Starts a daemon in `sandbox` that a service manager passes this listening socket under this name.
    pub fn start_passed(sandbox: impl Into<Arc<Sandbox>>, socket: OwnedFd, name: &str) -> Self {
        let sandbox = sandbox.into();
        let mut command = program::with_passed(&Self::command(&sandbox), name);
        command.stdin(Stdio::from(socket));
        Self::started(command, sandbox)
    }

    /// Starts a daemon in `sandbox` that cannot serve there, and waits for its end.
    pub fn refused_in(sandbox: &Sandbox) -> ProgramOutput {
        Call::start(Self::command(sandbox)).output()
    }

    /// Starts a daemon with these settings and options whose stderr is not read here: `stderr` says what it is,
    /// and `None` that it is closed. Waits until it serves.
    pub fn start_unread(settings: &str, options: &[&str], stderr: Option<Stdio>) -> Self {
        let sandbox = Arc::new(Sandbox::new(settings));
        let mut command = Self::command(&sandbox);
        command.args(options);
        let mut command = match stderr {
            Some(stderr) => {
                command.stderr(stderr);
                command
            }
            None => program::without_stderr(&command),
        };
        let child = command.spawn().expect("the supervisor starts");
        let daemon = Self {
            sandbox,
            stderr: OutputLines::default(),
            running: RunningProgram::watch(child),
        };
        let socket = daemon.sandbox.socket();
        assert!(wait::until(PATIENCE, || Client::connect(&socket).is_ok()));
        daemon
    }

    fn start_with(sandbox: impl Into<Arc<Sandbox>>, recorded: bool) -> Self {
        let sandbox = sandbox.into();
        let mut command = Self::command(&sandbox);
        if recorded {
            command.arg("--record").arg(sandbox.record());
        }
        Self::started(command, sandbox)
    }

    fn command(sandbox: &Sandbox) -> Command {
        let mut command = program::command(&sandbox.binaries().supervisor(), sandbox);
        command
            .arg("--config")
            .arg(sandbox.settings())
            .arg("--runtime-dir")
            .arg(sandbox.runtime_dir());
        command
    }

    fn started(mut command: Command, sandbox: Arc<Sandbox>) -> Self {
        let mut child = command.spawn().expect("the supervisor starts");
        let stderr = OutputLines::follow(child.stderr.take().expect("it is piped"));
        Self {
            sandbox,
            stderr,
            running: RunningProgram::watch(child),
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// A conversation with it.
    pub fn client(&self) -> Client {
        Client::connect(&self.sandbox.socket()).expect("the daemon serves")
    }

    /// Everything it tells about itself.
    pub fn status(&self) -> StatusReport {
        self.client().status().expect("the daemon serves")
    }

    /// The pids of its workers, in order.
    pub fn worker_pids(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = self
            .status()
            .workers
            .iter()
            .filter_map(|worker| worker.pid)
            .collect();
        pids.sort_unstable();
        pids
    }

    /// Runs `imagepool` against it and waits for its end.
    pub fn imagepool(&self, arguments: &[&str]) -> ProgramOutput {
        self.sandbox.imagepool(arguments)
    }

    /// Starts `imagepool` against it.
    pub fn imagepool_begun(&self, arguments: &[&str]) -> Call {
        self.sandbox.imagepool_begun(arguments)
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.running.wait(PATIENCE)
    }

    /// Kills it with SIGKILL and gives its sandbox back. Fails the test when anything it had started
    /// outlives it by more than `patience`.
    pub fn kill(mut self, patience: Duration) -> Arc<Sandbox> {
        self.end(patience);
        Arc::clone(&self.sandbox)
    }

    /// The same; also says how long its workers outlived it.
    pub fn kill_timed(mut self, patience: Duration) -> (Arc<Sandbox>, Duration) {
        let workers = children(self.pid());
        // A process that has ended and was not waited for has no command line.
        let line = |pid: &u32| std::fs::read(format!("/proc/{pid}/cmdline"));
        let lives = |pid: &u32| line(pid).is_ok_and(|line| !line.is_empty());
        let ((), took) = wait::timed(|| {
            self.running.signal(Signal::SIGKILL);
            wait::until(patience, || !workers.iter().any(lives));
        });
        (self.kill(patience), took)
    }

    fn end(&mut self, patience: Duration) {
        self.running.signal(Signal::SIGKILL);
        self.running.wait(PATIENCE);
        let gone = wait::until(patience, || self.sandbox.servants().is_empty());
        assert!(
            gone || std::thread::panicking(),
            "{patience:?} after the supervisor there are {:?}",
            self.sandbox.servants()
        );
    }
}

impl Drop for TestDaemon {
    fn drop(&mut self) {
        self.end(PATIENCE);
    }
}
