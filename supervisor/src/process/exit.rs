//! The end of a process: its exit code or signal, and the sender of the signal.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::sys::signal::Signal;
use pool::{Exit, KilledBy};

use super::groups::WorkerGroup;
use super::kernel_kills::KernelKills;

/// The message that Rust's runtime prints before it aborts after a failed allocation, around the number of bytes. Stable
/// Rust has no hook there, so that the worker cannot exit with a code instead: an allocator of its own would be unsafe code.
/// The line is the worker's word, as a code would be. It never acquits a request for long: its job is placed again once,
/// and then fails for lack of memory.
const ALLOCATION_FAILED: (&str, &str) = ("memory allocation of ", " bytes failed");

/// Evidence about the end of a process besides its exit status.
#[derive(Debug)]
pub struct ExitEvidence<'a> {
    /// Signals that we sent before it began to exit.
    pub sent: &'a [Signal],
    /// Signals that operators sent through us before it began to exit.
    pub of_operators: &'a [Signal],
    /// The kernel's part.
    pub kernel: KernelEvidence<'a>,
    /// Its last lines on stderr.
    pub lines: &'a [String],
}

/// Where the kernel counts its out-of-memory kills.
#[derive(Debug, Clone, Copy)]
pub enum KernelEvidence<'a> {
    /// In the group that all workers share.
    Shared(&'a KernelKills),
    /// In the worker's own group.
    Own(&'a WorkerGroup),
}

impl KernelEvidence<'_> {
    fn explain(self, signal: i32) -> Option<KilledBy> {
        match self {
            Self::Shared(kills) => kills.explain(signal).then_some(KilledBy::KernelOom),
            Self::Own(group) => group.explain(signal),
        }
    }
}

/// Reads an exit status. It does not name the sender of a signal: that is us or an operator if this signal was sent
/// through us, the kernel if it counted an out-of-memory kill, and else unknown.
pub fn read(status: ExitStatus, evidence: &ExitEvidence<'_>) -> Exit {
    let Some(signal) = status.signal() else {
        // By wait(2) a process has exited or was signalled; any other status is kept as a code.
        return Exit::Code(status.code().unwrap_or_else(|| status.into_raw()));
    };
    let was_sent = |sent: &[Signal]| sent.iter().any(|sent| *sent as i32 == signal);
    let by = if was_sent(evidence.sent) {
        KilledBy::Us
    } else if was_sent(evidence.of_operators) {
        KilledBy::Operator
    } else if signal == Signal::SIGABRT as i32 && evidence.lines.iter().any(|line| lacked(line)) {
        KilledBy::AllocationFailed
    } else {
        evidence.kernel.explain(signal).unwrap_or(KilledBy::Other)
    };
    Exit::Signal { signal, by }
}

/// Whether the line reports a failed allocation.
pub fn lacked(line: &str) -> bool {
    let (before, after) = ALLOCATION_FAILED;
    let bytes = line
        .strip_prefix(before)
        .and_then(|rest| rest.strip_suffix(after));
    bytes.is_some_and(|bytes| bytes.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::super::kernel_kills;
    use super::*;

    fn by(signal: Signal, sent: &[Signal], line: &str) -> KilledBy {
        let evidence = ExitEvidence {
            sent,
            of_operators: &[Signal::SIGUSR1, Signal::SIGKILL],
            kernel: KernelEvidence::Shared(&kernel_kills::OWN),
            lines: &["it starts".into(), line.into(), "stack backtrace:".into()],
        };
        match read(ExitStatus::from_raw(signal as i32), &evidence) {
            Exit::Signal { by, .. } => by,
            Exit::Code(code) => panic!("code {code}"),
        }
    }

    #[test]
    fn a_signal_is_ours_or_an_operators_only_if_it_was_sent() {
        use Signal::{SIGKILL, SIGSEGV, SIGTERM, SIGUSR1, SIGUSR2};
        assert_eq!(by(SIGKILL, &[SIGTERM, SIGKILL], ""), KilledBy::Us);
        assert_eq!(by(SIGTERM, &[SIGTERM], ""), KilledBy::Us);
        assert_eq!(by(SIGSEGV, &[SIGTERM], ""), KilledBy::Other);
        assert_eq!(by(SIGUSR1, &[], ""), KilledBy::Operator);
        assert_eq!(by(SIGKILL, &[SIGTERM], ""), KilledBy::Operator);
        assert_eq!(by(SIGUSR2, &[], ""), KilledBy::Other);
    }

    #[test]
    fn an_abort_after_a_failed_allocation_means_out_of_memory() {
        let said = "memory allocation of 4096 bytes failed";
        assert_eq!(by(Signal::SIGABRT, &[], said), KilledBy::AllocationFailed);
        assert_eq!(by(Signal::SIGSEGV, &[], said), KilledBy::Other);
        let other = "memory allocation of my own bytes failed";
        assert_eq!(by(Signal::SIGABRT, &[], other), KilledBy::Other);
    }
}
