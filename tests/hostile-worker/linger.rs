//! Processes that a worker leaves behind, with its descriptors.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use nix::unistd::{alarm, pause, setsid};

/// The argument by which this program knows that it is such a process.
pub const LINGER: &str = "--linger";
/// Seconds after which a process ends by itself, so that it does not outlive its test for long.
const SECONDS_MAX: u32 = 600;

/// Where a process that is left behind lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessScope {
    /// In the worker's process group.
    Group,
    /// In a session of its own, as a daemon does.
    Session,
    /// The same, without the environment of the worker, so that nothing tells whose child it is.
    Stranger,
}

impl ProcessScope {
    const ALL: [(ProcessScope, &str); 3] = [
        (ProcessScope::Group, "group"),
        (ProcessScope::Session, "session"),
        (ProcessScope::Stranger, "stranger"),
    ];

    fn word(self) -> &'static str {
        let found = Self::ALL.iter().find(|(scope, _)| *scope == self);
        found.expect("all are listed").1
    }
}

/// Starts one that holds our socket and our stderr, and waits until it is where it belongs.
#[expect(
    clippy::disallowed_methods,
    clippy::zombie_processes,
    reason = "a worker that starts processes and leaves them behind is what this is"
)]
pub fn leave(scope: ProcessScope) {
    let own = std::env::current_exe().expect("a running program has a path");
    let mut command = Command::new(own);
    command.args([LINGER, scope.word()]).stdout(Stdio::piped());
    if scope == ProcessScope::Stranger {
        // By this variable the tests know it.
        let folder = std::env::var_os("TMPDIR");
        command.env_clear().envs(folder.map(|it| ("TMPDIR", it)));
    }
    let mut child = command.spawn().expect("it starts");
    let mut pipe = child.stdout.take().expect("it is piped");
    pipe.read_exact(&mut [0]).expect("it says when it is there");
}

/// Is one.
pub fn linger(word: &str) -> ! {
    alarm::set(SECONDS_MAX);
    let scope = ProcessScope::ALL.iter().find(|(_, known)| *known == word);
    if scope.expect("a known word").0 != ProcessScope::Group {
        setsid().expect("we lead no group");
    }
    let told = std::io::stdout().write_all(b"+");
    told.and_then(|()| std::io::stdout().flush())
        .expect("the worker listens");
    loop {
        pause();
    }
}
