//! Ends this process with the one that started it.

use ipc_protocol::exit_code::ExitCode;
use nix::sys::{prctl, signal::Signal};
use nix::unistd;

/// Requests `signal` from the kernel for when the parent exits, and exits at once if `parent` is not the parent any
/// more. Must be called first.
pub fn end_with(parent: Option<u32>, signal: Signal) {
    // If the kernel refuses, the next event that nobody reads ends this process too.
    let _ = prctl::set_pdeathsig(signal);
    if parent.is_some_and(|parent| unistd::getppid().as_raw() as u32 != parent) {
        ExitCode::SupervisorGone.exit();
    }
}
