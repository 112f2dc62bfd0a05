//! How tests start programs: in a sandbox of their own, with a deadline for their end.

#![expect(
    clippy::disallowed_methods,
    reason = "this file is where tests start processes"
)]

use std::io::{self, Read, Seek, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::sandbox::Sandbox;

/// No test waits longer than this for a program to end.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A program with its environment emptied down to what `sandbox` says; its output is piped.
pub fn command(program: &Path, sandbox: &Sandbox) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(sandbox.environment())
        .current_dir(sandbox.pictures())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The same program as another user; only root can start it.
pub fn as_user(mut command: Command, uid: u32, gid: u32) -> Command {
    command.uid(uid).gid(gid);
    command
}

/// The same program in a mount namespace of its own, after `line`, which may mount there.
pub fn in_mounts(command: &Command, line: &str) -> Command {
    let user = match nix::unistd::geteuid().is_root() {
        true => "-m",
        false => "-rm",
    };
    let inner = format!("{line} && exec \"$0\" \"$@\"");
    by_shell(
        command,
        &format!("exec unshare {user} /bin/sh -c '{inner}' \"$0\" \"$@\""),
    )
}

/// Runs a line of shell in the mount namespace of a process.
pub fn in_mounts_of(pid: u32, line: &str) {
    let status = Command::new("nsenter")
        .args([
            &format!("--target={pid}"),
            "--mount",
            "--",
            "/bin/sh",
            "-c",
            line,
        ])
        .status();
    assert!(status.expect("util-linux is here").success(), "{line}");
}

/// The same program with its stdin read from a file.
pub fn with_stdin(mut command: Command, text: impl AsRef<[u8]>) -> Command {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(text.as_ref())
        .and_then(|()| file.rewind())
        .expect("a temporary file");
    command.stdin(file);
    command
}

/// The same program with this limit of open files.
pub fn with_open_files(command: &Command, most: u32) -> Command {
    by_shell(command, &format!("ulimit -n {most} && exec \"$0\" \"$@\""))
}

/// Changes the largest size of a file that a running process may write, in bytes.
pub fn limit_file_size(pid: u32, bytes: &str) {
    let status = Command::new("prlimit")
        .args([format!("--pid={pid}"), format!("--fsize={bytes}:")])
        .status();
    assert!(status.expect("util-linux is here").success());
}

/// The same program with its stderr closed.
pub fn without_stderr(command: &Command) -> Command {
    by_shell(command, "exec \"$0\" \"$@\" 2>&-")
}

/// The same program with its stdin as the one socket, of this name, that a service manager passes.
pub fn with_passed(command: &Command, name: &str) -> Command {
    let line = format!(
        "exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES={name}; exec \"$0\" \"$@\""
    );
    by_shell(command, &line)
}

/// A program started by a line of the shell, in which `$0` is the program and `$@` are its arguments.
pub fn by_shell(command: &Command, line: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", line])
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear();
    for (name, value) in command.get_envs() {
        shell.envs(value.map(|value| (name, value)));
    }
    if let Some(folder) = command.get_current_dir() {
        shell.current_dir(folder);
    }
    shell
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    shell
}

/// A program that runs; its exit is awaited by a thread, so that waiting can have a deadline.
#[derive(Debug)]
pub struct RunningProgram {
    pid: u32,
    ended: Mutex<Receiver<io::Result<ExitStatus>>>,
    status: Option<ExitStatus>,
}

impl RunningProgram {
    /// Watches a child. Whoever wants its output has taken the pipes.
    pub fn watch(mut child: Child) -> Self {
        let pid = child.id();
        let (sender, ended) = mpsc::channel();
        thread::spawn(move || sender.send(child.wait()));
        Self {
            pid,
            ended: Mutex::new(ended),
            status: None,
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.status = self.status.or_else(|| {
            let ended = self.ended.get_mut().ok()?.try_recv().ok()?;
            Some(ended.expect("our own child can be waited for"))
        });
        self.status.is_none()
    }

    /// Sends a signal, unless it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            // ESRCH: it ended this instant, which is what signals are for here.
            let _ = signal::kill(Pid::from_raw(self.pid as i32), signal);
        }
    }

    /// Waits for its end.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        if let Some(status) = self.status {
            return status;
        }
        let status = self
            .ended
            .get_mut()
            .expect("no holder of this lock can panic")
            .recv_timeout(patience)
            .unwrap_or_else(|_| panic!("process {} has not ended after {patience:?}", self.pid))
            .expect("our own child can be waited for");
        self.status = Some(status);
        status
    }
}

/// The result of a program that ended.
#[derive(Debug, Clone)]
pub struct ProgramOutput {
    /// Its exit code; a signal is 128 and its number, as shells say.
    pub code: i32,
    /// Its stdout.
    pub stdout: Vec<u8>,
    /// Its stderr.
    pub stderr: String,
}

/// A program whose output is collected.
#[derive(Debug)]
pub struct Call {
    running: RunningProgram,
    stdout: Option<Receiver<Vec<u8>>>,
    stderr: Option<Receiver<Vec<u8>>>,
}

impl Call {
    /// Starts it. Its stdout and stderr may be something else than the pipes that [`command`] gives it.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the program under test starts");
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        Self {
            running: RunningProgram::watch(child),
            stdout,
            stderr,
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.running.is_running()
    }

    /// Waits for its end and its output's.
    pub fn output(mut self) -> ProgramOutput {
        let status = self.running.wait(PATIENCE);
        let all = |pipe: Receiver<Vec<u8>>| {
            pipe.recv_timeout(PATIENCE)
                .expect("nobody holds the pipe of a program that ended")
        };
        let stderr = self.stderr.map(all).unwrap_or_default();
        ProgramOutput {
            code: status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: self.stdout.map(all).unwrap_or_default(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, bytes) = mpsc::channel();
    thread::spawn(move || {
        let mut all = Vec::new();
        // A pipe that breaks has given what it had.
        let _ = pipe.read_to_end(&mut all);
        sender.send(all)
    });
    bytes
}
