//! A supervisor in a world of its own.

use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ipc_protocol::client::Client;
use ipc_protocol::status::StatusReport;
use nix::sys::signal::Signal;

use crate::lines::Lines;
use crate::program::{self, Call, Output, PATIENCE, Running};
use crate::record::Record;
use crate::wait;
use crate::world::World;

/// A running daemon. Dropping it kills it, and checks that its workers go with it.
#[derive(Debug)]
pub struct Daemon {
    /// Where it runs.
    pub world: Arc<World>,
    /// What it says.
    pub stderr: Lines,
    running: Running,
}

impl Daemon {
    /// Starts a daemon with these settings and waits until it serves.
    pub fn start(settings: &str) -> Self {
        Self::start_in(World::new(settings))
    }

    /// Starts a daemon in `world` and waits until it serves.
    pub fn start_in(world: impl Into<Arc<World>>) -> Self {
        let daemon = Self::start_unready(world);
        daemon.stderr.wait_for("Serving.", 1, PATIENCE);
        daemon
    }

    /// Starts a daemon with these settings that writes every event down, and waits until it serves.
    pub fn start_recorded(settings: &str) -> Self {
        let daemon = Self::start_with(World::new(settings), true);
        daemon.stderr.wait_for("Serving.", 1, PATIENCE);
        daemon
    }

    /// Ends a daemon that writes every event down, and reads what it wrote.
    pub fn recorded(mut self) -> Record {
        self.imagepool(&["shutdown"]).succeeded();
        self.wait();
        Record::read(&self.world.record()).expect("the daemon wrote it")
    }

    /// Starts a daemon in `world`, and waits for nothing.
    pub fn start_unready(world: impl Into<Arc<World>>) -> Self {
        Self::start_with(world, false)
    }

    /// Starts a daemon with these settings that can open few files, and waits until it serves.
    pub fn start_with_open_files(settings: &str, most: u32) -> Self {
        let world = World::new(settings);
        let command = program::with_open_files(&Self::command(&world), most);
        let daemon = Self::started(command, world.into());
        daemon.stderr.wait_for("Serving.", 1, PATIENCE);
        daemon
    }

    /// Starts a daemon in `world` as another user, which only root can, and waits until it serves.
    pub fn start_as(uid: u32, gid: u32, world: impl Into<Arc<World>>) -> Self {
        let world = world.into();
        let command = program::as_user(Self::command(&world), uid, gid);
        let daemon = Self::started(command, world);
        daemon.stderr.wait_for("Serving.", 1, PATIENCE);
        daemon
    }

    /// Starts a daemon in `world` that cannot serve there, and waits for its end.
    pub fn refused_in(world: &World) -> Output {
        Call::start(Self::command(world)).output()
    }

    /// Starts a daemon with these settings and options whose stderr is not read here: `stderr` says what it is,
    /// and `None` that it is closed. Waits until it serves.
    pub fn start_unread(settings: &str, options: &[&str], stderr: Option<Stdio>) -> Self {
        let world = Arc::new(World::new(settings));
        let mut command = Self::command(&world);
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
            world,
            stderr: Lines::default(),
            running: Running::watch(child),
        };
        let socket = daemon.world.socket();
        assert!(wait::until(PATIENCE, || Client::connect(&socket).is_ok()));
        daemon
    }

    fn start_with(world: impl Into<Arc<World>>, recorded: bool) -> Self {
        let world = world.into();
        let mut command = Self::command(&world);
        if recorded {
            command.arg("--record").arg(world.record());
        }
        Self::started(command, world)
    }

    fn command(world: &World) -> Command {
        let mut command = program::command(&world.binaries().supervisor(), world);
        command
            .arg("--config")
            .arg(world.settings())
            .arg("--runtime-dir")
            .arg(world.runtime_dir());
        command
    }

    fn started(mut command: Command, world: Arc<World>) -> Self {
        let mut child = command.spawn().expect("the supervisor starts");
        let stderr = Lines::follow(child.stderr.take().expect("it is piped"));
        Self {
            world,
            stderr,
            running: Running::watch(child),
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// A conversation with it.
    pub fn client(&self) -> Client {
        Client::connect(&self.world.socket()).expect("the daemon serves")
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
    pub fn imagepool(&self, arguments: &[&str]) -> Output {
        self.world.imagepool(arguments)
    }

    /// Starts `imagepool` against it.
    pub fn imagepool_begun(&self, arguments: &[&str]) -> Call {
        self.world.imagepool_begun(arguments)
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.running.wait(PATIENCE)
    }

    /// Kills it with SIGKILL and gives its world back. Fails the test when anything it had started
    /// outlives it by more than `patience`.
    pub fn kill(mut self, patience: Duration) -> Arc<World> {
        self.end(patience);
        Arc::clone(&self.world)
    }

    fn end(&mut self, patience: Duration) {
        self.running.signal(Signal::SIGKILL);
        self.running.wait(PATIENCE);
        let gone = wait::until(patience, || self.world.servants().is_empty());
        assert!(
            gone || std::thread::panicking(),
            "{patience:?} after the supervisor there are {:?}",
            self.world.servants()
        );
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end(PATIENCE);
    }
}
