//! The cause of a worker's end, by its exit code or signal and the reason to stop it.

use ipc_protocol::exit_code::ExitCode;

use crate::words::event::{Exit, KilledBy};
use crate::words::reasons::StopReason;

/// Why a process ended, for the records of its model and of its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The pool wanted it to.
    Wanted,
    /// Its model's files or settings cannot work now: nothing against a job.
    CannotLoad,
    /// No memory while loading.
    OutOfMemoryLoading,
    /// No memory while it had a job: the job needs more memory.
    OutOfMemory,
    /// The control group as a whole ran out of memory and the kernel killed the worker. Counts neither against the
    /// model nor against the job.
    KernelOutOfMemory,
    /// The device's context is lost; the device is there.
    ContextLost,
    /// The device is gone.
    DeviceGone,
    /// SIGKILL, SIGTERM and the like from neither the pool nor the kernel: nothing against model or job.
    Outside,
    /// Too little of the processor for too long: nothing against model or job.
    Starved,
    /// It gave no sign of life. It may have been suspended from outside, so nothing against its job.
    Silent,
    /// Its own making: a signal of its own, a panic, a hang although it had the processor, a broken
    /// protocol.
    Fault,
}

impl Cause {
    pub(crate) fn of(exit: Exit, why: Option<StopReason>, was_loading: bool) -> Self {
        match why {
            Some(StopReason::Starved) => Self::Starved,
            Some(StopReason::Silent) => Self::Silent,
            Some(why) if why.is_fault() => Self::Fault,
            Some(_) => Self::Wanted,
            None => Self::of_exit(exit, was_loading),
        }
    }

    fn of_exit(exit: Exit, was_loading: bool) -> Self {
        let memory = match was_loading {
            true => Self::OutOfMemoryLoading,
            false => Self::OutOfMemory,
        };
        match exit {
            Exit::Code(number) => match ExitCode::from_number(number) {
                Some(
                    ExitCode::UnusableWeights
                    | ExitCode::BadConfiguration
                    | ExitCode::ProtocolMismatch,
                ) => Self::CannotLoad,
                Some(ExitCode::OutOfMemoryLoading) => memory,
                Some(ExitCode::OutOfMemoryRunning) => Self::OutOfMemory,
                Some(ExitCode::DeviceLost) => Self::ContextLost,
                Some(ExitCode::DeviceGone) => Self::DeviceGone,
                Some(ExitCode::Left | ExitCode::SupervisorGone | ExitCode::Panicked) | None => {
                    Self::Fault
                }
            },
            Exit::Signal { signal, by } => match by {
                KilledBy::Us => Self::Fault,
                KilledBy::KernelOom => Self::KernelOutOfMemory,
                KilledBy::AllocationFailed => memory,
                KilledBy::Other => of_signal(signal),
            },
        }
    }

    /// The job may have caused it.
    pub(crate) fn accuses_job(self) -> bool {
        match self {
            Self::Fault => true,
            Self::Wanted
            | Self::CannotLoad
            | Self::OutOfMemoryLoading
            | Self::OutOfMemory
            | Self::KernelOutOfMemory
            | Self::ContextLost
            | Self::DeviceGone
            | Self::Outside
            | Self::Starved
            | Self::Silent => false,
        }
    }

    /// Neither the worker, nor its model, nor its job caused it.
    pub(crate) fn is_nobodys(self) -> bool {
        match self {
            Self::KernelOutOfMemory
            | Self::ContextLost
            | Self::DeviceGone
            | Self::Outside
            | Self::Starved => true,
            Self::Wanted
            | Self::CannotLoad
            | Self::OutOfMemoryLoading
            | Self::OutOfMemory
            | Self::Silent
            | Self::Fault => false,
        }
    }
}

/// The cause of a signal of unknown origin: people and programs send some, the kernel raises one for a mapped
/// file that was cut, and the worker causes the others itself.
fn of_signal(signal: i32) -> Cause {
    match signal {
        1 | 2 | 3 | 9 | 15 => Cause::Outside,
        7 => Cause::CannotLoad,
        _ => Cause::Fault,
    }
}

/// How a worker ended, in words for the answer of its job.
pub(crate) fn words(exit: Exit, why: Option<StopReason>) -> String {
    let ended = match exit {
        Exit::Code(code) => format!("exited with code {code}"),
        Exit::Signal { signal, by } => {
            let by = match by {
                KilledBy::Us => "from us",
                KilledBy::KernelOom => "from the kernel, out of memory",
                KilledBy::AllocationFailed => "of its own, an allocation failed",
                KilledBy::Other => match of_signal(signal) {
                    Cause::Outside => "from outside",
                    Cause::CannotLoad => "because a model file was cut or cannot be read",
                    _ => "of its own",
                },
            };
            format!("ended by signal {signal} {by}")
        }
    };
    match why {
        Some(why) => format!("{ended} ({})", why.word()),
        None => ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(signal: i32, by: KilledBy) -> Exit {
        Exit::Signal { signal, by }
    }

    #[test]
    fn only_what_a_worker_did_itself_accuses_its_job() {
        let accused = |exit| Cause::of(exit, None, false).accuses_job();
        for own in [4, 5, 6, 8, 11, 31] {
            assert!(accused(signal(own, KilledBy::Other)), "signal {own}");
        }
        for sent in [1, 2, 3, 7, 9, 15] {
            assert!(!accused(signal(sent, KilledBy::Other)), "signal {sent}");
        }
        assert!(!accused(signal(9, KilledBy::KernelOom)));
        assert!(!accused(signal(6, KilledBy::AllocationFailed)));
        assert!(accused(Exit::Code(85)));
        for code in [66, 75, 78, 80, 81, 82, 83] {
            assert!(!accused(Exit::Code(code)), "code {code}");
        }
    }

    #[test]
    fn each_exit_code_has_its_cause() {
        let cause = |code: ExitCode, loading| {
            Cause::of(Exit::Code(i32::from(code.number())), None, loading)
        };
        for code in ExitCode::all() {
            let (loading, running, accuses) = match code {
                ExitCode::UnusableWeights
                | ExitCode::BadConfiguration
                | ExitCode::ProtocolMismatch => (Cause::CannotLoad, Cause::CannotLoad, false),
                ExitCode::OutOfMemoryLoading => {
                    (Cause::OutOfMemoryLoading, Cause::OutOfMemory, false)
                }
                ExitCode::OutOfMemoryRunning => (Cause::OutOfMemory, Cause::OutOfMemory, false),
                ExitCode::DeviceLost => (Cause::ContextLost, Cause::ContextLost, false),
                ExitCode::DeviceGone => (Cause::DeviceGone, Cause::DeviceGone, false),
                ExitCode::Left | ExitCode::SupervisorGone | ExitCode::Panicked => {
                    (Cause::Fault, Cause::Fault, true)
                }
            };
            assert_eq!(cause(code, true), loading, "{code:?}");
            assert_eq!(cause(code, false), running, "{code:?}");
            assert_eq!(running.accuses_job(), accuses, "{code:?}");
        }
    }

    #[test]
    fn a_hang_accuses_the_job_only_where_the_worker_had_the_processor() {
        let killed = signal(9, KilledBy::Us);
        let accused = |why| Cause::of(killed, Some(why), false).accuses_job();
        assert!(accused(StopReason::Stuck) && accused(StopReason::Protocol));
        assert!(!accused(StopReason::Starved) && !accused(StopReason::Silent));
    }

    #[test]
    fn a_model_is_not_blamed_for_what_the_machine_did() {
        let nobodys = |exit| Cause::of(exit, None, true).is_nobodys();
        assert!(nobodys(signal(9, KilledBy::Other)) && nobodys(signal(9, KilledBy::KernelOom)));
        assert!(nobodys(Exit::Code(81)) && nobodys(Exit::Code(82)));
        assert!(!nobodys(signal(11, KilledBy::Other)) && !nobodys(signal(7, KilledBy::Other)));
    }
}
