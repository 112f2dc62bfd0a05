//! Tries to escape from the sandbox of a worker, in every way that a compromised worker might.
//!
//! The process confines itself as the honest worker does, with the same functions. Then it attempts, with its first job,
//! what `ATTEMPTS` of each file lists, seals itself, makes all attempts again and prints a line for each.

mod call;
mod files;
mod kernel;
mod processes;
mod sockets;
mod targets;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use ipc_protocol::connection;
use ipc_protocol::exit_code::ExitCode;
use ipc_protocol::messages::worker::{FromWorker, JobFault, ToWorker, Welcome};
use ipc_protocol::sandbox::SandboxReached;
use nix::errno::Errno;
use sandbox::SandboxProfile;

use crate::socket::WorkerSocket;
use targets::EscapeTargets;

/// A name, and the attempt.
pub type Attempt = (&'static str, fn(&EscapeTargets) -> Result<(), Errno>);

/// Serves as a worker whose code is the attacker's.
pub fn serve(socket: &WorkerSocket, welcome: &Welcome) -> ! {
    let off = std::env::args().any(|argument| argument == "--no-sandbox");
    let reached = match off {
        true => SandboxReached::Off,
        false => confine(welcome),
    };
    let order = socket.behave_within(welcome, reached);
    let targets = EscapeTargets::read(&order.prompt);
    // A sealed process reads and writes its socket as a file.
    let descriptor = std::io::stdin().as_fd().try_clone_to_owned();
    let mut socket = File::from(descriptor.expect("the supervisor gave us one"));
    let narrow = try_all(&targets);
    if !off {
        assert!(sandbox::seal(SandboxProfile::Cpu), "the kernel has filters");
    }
    for ((name, narrow), (_, sealed)) in narrow.iter().zip(try_all(&targets)) {
        // A supervisor that does not read fails the test that waits for these lines.
        let _ = writeln!(std::io::stderr(), "escape {name}: {narrow} {sealed}");
    }
    let message = "tried everything".to_owned();
    let failed = FromWorker::Failed {
        job: order.job,
        fault: JobFault::Other { message },
    };
    connection::write(&mut socket, &failed).expect("the supervisor listens");
    while connection::read::<ToWorker>(&mut socket).is_ok() {}
    ExitCode::Left.exit()
}

/// As the honest worker, whose model has no files.
fn confine(welcome: &Welcome) -> SandboxReached {
    let reached = sandbox::enter(SandboxProfile::Cpu);
    sandbox::limit_files(welcome.geometry.total_bytes());
    sandbox::narrow(SandboxProfile::Cpu, None).expect("the kernel takes the rules");
    reached
}

/// Makes all attempts. Returns the outcome of each, in order.
fn try_all(targets: &EscapeTargets) -> Vec<(&'static str, String)> {
    let parts = [
        files::ATTEMPTS,
        sockets::ATTEMPTS,
        processes::ATTEMPTS,
        kernel::ATTEMPTS,
    ];
    let all = parts.iter().copied().flatten();
    let outcomes = all.map(|(name, attempt)| match attempt(targets) {
        Ok(()) => (*name, "succeeded".to_owned()),
        Err(errno) => (*name, format!("{errno:?}")),
    });
    outcomes.collect()
}
