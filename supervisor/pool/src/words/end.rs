//! The class of a worker's end: the one list of words for log, metrics, status and obituaries.

use ipc_protocol::exit_code::ExitCode;

use crate::words::event::{Exit, KilledBy};
use crate::words::reasons::StopReason;

/// The class of a worker's end, from its exit status and the reason to stop it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndClass {
    /// The pool stopped it for this reason, however its process ended then.
    Stopped(StopReason),
    /// It exited by itself with a code of the table.
    Exited(ExitCode),
    /// It exited by itself with a code that is not in the table.
    UnknownCode,
    /// The kernel does not report how it ended.
    NotWaited,
    /// A signal of ours, although the pool gave no reason to stop it.
    KilledByUs,
    /// A signal that an operator sent through this pool.
    KilledByOperator,
    /// The kernel killed it because the machine, or a control group that it shares with others, was out of memory.
    KernelOutOfMemory,
    /// The kernel killed it because it used more memory than its own control group may.
    MemoryLimit,
    /// It aborted because an allocation failed.
    AllocationFailed,
    /// Another process sent it SIGKILL, SIGTERM, SIGUSR1 or the like.
    Killed,
    /// SIGBUS, and its model's files have changed since it loaded them.
    ReadFailed,
    /// SIGSEGV, SIGABRT, SIGBUS and the like: it raised them itself, unless another process sent them, which is rare.
    Crashed,
    /// Its process could not be made.
    NotStarted,
    /// It was killed, and the kernel has not ended it yet.
    NotReaped,
}

/// SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM: people and programs send them, and no fault
/// raises them.
const SENT: [i32; 8] = [1, 2, 3, 9, 10, 12, 14, 15];
/// The code that stands for an exit status that the kernel does not report.
const NOT_WAITED: i32 = -1;

impl EndClass {
    /// Classifies an end. The reason to stop a worker says more than the signal that it was stopped with.
    pub fn of(exit: Exit, why: Option<StopReason>) -> Self {
        match why {
            Some(why) => Self::Stopped(why),
            None => Self::of_exit(exit),
        }
    }

    fn of_exit(exit: Exit) -> Self {
        match exit {
            Exit::Code(NOT_WAITED) => Self::NotWaited,
            Exit::Code(number) => {
                ExitCode::from_number(number).map_or(Self::UnknownCode, Self::Exited)
            }
            Exit::Signal { signal, by } => match by {
                KilledBy::Us => Self::KilledByUs,
                KilledBy::Operator => Self::KilledByOperator,
                KilledBy::KernelOom => Self::KernelOutOfMemory,
                KilledBy::OwnLimit => Self::MemoryLimit,
                KilledBy::AllocationFailed => Self::AllocationFailed,
                KilledBy::CutFile => Self::ReadFailed,
                KilledBy::Other if SENT.contains(&signal) => Self::Killed,
                KilledBy::Other => Self::Crashed,
            },
        }
    }

    /// The word in logs, metrics and obituaries.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stopped(why) => why.word(),
            Self::Exited(code) => code.word(),
            Self::UnknownCode => "unknown_code",
            Self::NotWaited => "not_waited",
            Self::KilledByUs => "killed_by_us",
            Self::KilledByOperator => "killed_by_operator",
            Self::KernelOutOfMemory => "kernel_out_of_memory",
            Self::MemoryLimit => "memory_limit",
            Self::AllocationFailed => "allocation_failed",
            Self::Killed => "killed",
            Self::ReadFailed => "read_failed",
            Self::Crashed => "crashed",
            Self::NotStarted => "not_started",
            Self::NotReaped => "not_reaped",
        }
    }

    /// The meaning in a few words.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Stopped(why) => why.meaning(),
            Self::Exited(code) => code.meaning(),
            Self::UnknownCode => "no worker of ours uses that code",
            Self::NotWaited => "the kernel does not report how it ended",
            Self::KilledByUs => "sent by us",
            Self::KilledByOperator => "sent by an operator with `imagepool signal`",
            Self::KernelOutOfMemory => "sent by the kernel, which was out of memory",
            Self::MemoryLimit => {
                "sent by the kernel, as it used more memory than its control group may"
            }
            Self::AllocationFailed => "of its own, an allocation failed",
            Self::Killed => "sent by another process; the kernel does not report which",
            Self::ReadFailed => "its model files changed while it read them",
            Self::Crashed => "raised by itself, unless another process sent it",
            Self::NotStarted => "its process could not be made",
            Self::NotReaped => "killed, and the kernel has not ended it yet",
        }
    }
}

/// Describes a worker's end, e.g. `exited with code 85 (panic)`.
pub fn how_ended(exit: Exit, why: Option<StopReason>) -> String {
    let class = EndClass::of_exit(exit);
    let ended = match (exit, class) {
        (Exit::Code(NOT_WAITED), _) => format!("ended ({})", class.meaning()),
        (Exit::Code(code), EndClass::Exited(ExitCode::Left)) if why.is_none() => {
            format!("exited with code {code}, although it was not asked to")
        }
        (Exit::Code(code), _) => format!("exited with code {code} ({})", class.meaning()),
        (Exit::Signal { signal, .. }, _) => {
            format!("ended by signal {signal} ({})", class.meaning())
        }
    };
    match why {
        Some(why) => format!(
            "was stopped ({}: {}) and {ended}",
            why.word(),
            why.meaning()
        ),
        None => ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_to_stop_says_more_than_the_signal_that_was_sent() {
        let killed = Exit::Signal {
            signal: 9,
            by: KilledBy::Us,
        };
        let stuck = Some(StopReason::Stuck);
        assert_eq!(EndClass::of(killed, stuck).word(), "stuck");
        assert_eq!(EndClass::of(killed, None).word(), "killed_by_us");
        let how = how_ended(killed, stuck);
        assert!(
            how.contains("stuck") && how.contains("signal 9 (sent by us)"),
            "{how}"
        );
    }

    #[test]
    fn the_senders_of_a_sigkill_are_told_apart() {
        let word = |by| EndClass::of(Exit::Signal { signal: 9, by }, None).word();
        let all = [
            KilledBy::Us,
            KilledBy::Operator,
            KilledBy::KernelOom,
            KilledBy::OwnLimit,
            KilledBy::Other,
        ];
        let words = all.map(word);
        assert_eq!(
            words,
            [
                "killed_by_us",
                "killed_by_operator",
                "kernel_out_of_memory",
                "memory_limit",
                "killed"
            ]
        );
    }

    #[test]
    fn an_end_that_was_not_asked_for_is_not_called_asked_for() {
        let how = how_ended(Exit::Code(0), None);
        assert_eq!(how, "exited with code 0, although it was not asked to");
        assert_eq!(
            how_ended(Exit::Code(85), None),
            "exited with code 85 (panic)"
        );
        assert_eq!(EndClass::of(Exit::Code(-1), None), EndClass::NotWaited);
    }

    #[test]
    fn a_sentence_says_no_more_of_a_sender_than_is_known() {
        let how = |signal, by| how_ended(Exit::Signal { signal, by }, None);
        for (signal, by, sentence) in [
            (9, KilledBy::Us, "sent by us"),
            (
                10,
                KilledBy::Operator,
                "sent by an operator with `imagepool signal`",
            ),
            (
                11,
                KilledBy::Operator,
                "sent by an operator with `imagepool signal`",
            ),
            (
                10,
                KilledBy::Other,
                "sent by another process; the kernel does not report which",
            ),
            (
                11,
                KilledBy::Other,
                "raised by itself, unless another process sent it",
            ),
            (
                7,
                KilledBy::Other,
                "raised by itself, unless another process sent it",
            ),
            (
                7,
                KilledBy::CutFile,
                "its model files changed while it read them",
            ),
        ] {
            let expected = format!("ended by signal {signal} ({sentence})");
            assert_eq!(how(signal, by), expected);
        }
    }
}
