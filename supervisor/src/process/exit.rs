//! How a process ended: code or signal, and whose signal it was.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::sys::signal::Signal;
use pool::{Exit, KilledBy};

/// Reads an exit status. `killed_by_us` says that we sent the signal that ends all; a SIGKILL that we
/// did not send came from the kernel when it counts one more out-of-memory kill, else from outside.
pub fn read(status: ExitStatus, killed_by_us: bool, out_of_memory: bool) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal {
            signal,
            by: match (killed_by_us, out_of_memory) {
                (true, _) => KilledBy::Us,
                (false, true) if signal == Signal::SIGKILL as i32 => KilledBy::KernelOom,
                (false, _) => KilledBy::Other,
            },
        },
        // Neither exited nor signalled is no end at all by wait(2); the status is kept as a code.
        (None, None) => Exit::Code(status.into_raw()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sigkill_can_be_the_kernels() {
        let by = |signal| match read(ExitStatus::from_raw(signal), false, true) {
            Exit::Signal { by, .. } => by,
            Exit::Code(code) => panic!("code {code}"),
        };
        assert_eq!(by(Signal::SIGKILL as i32), KilledBy::KernelOom);
        assert_eq!(by(Signal::SIGSEGV as i32), KilledBy::Other);
    }
}
