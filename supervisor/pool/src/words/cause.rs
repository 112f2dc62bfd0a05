//! The cause of a worker's end, by its exit code or signal and the reason to stop it.

use ipc_protocol::exit_code::ExitCode;

use crate::words::end::EndClass;
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
    pub(crate) fn of(class: EndClass, was_loading: bool) -> Self {
        let memory = match was_loading {
            true => Self::OutOfMemoryLoading,
            false => Self::OutOfMemory,
        };
        match class {
            EndClass::Stopped(StopReason::Starved) => Self::Starved,
            EndClass::Stopped(StopReason::Silent) => Self::Silent,
            EndClass::Stopped(StopReason::Outgrown) => memory,
            EndClass::Stopped(why) if why.is_fault() => Self::Fault,
            EndClass::Stopped(_) => Self::Wanted,
            EndClass::Exited(code) => match code {
                ExitCode::UnusableWeights
                | ExitCode::BadConfiguration
                | ExitCode::ProtocolMismatch => Self::CannotLoad,
                ExitCode::OutOfMemoryLoading => memory,
                ExitCode::OutOfMemoryRunning => Self::OutOfMemory,
                ExitCode::DeviceLost => Self::ContextLost,
                ExitCode::DeviceGone => Self::DeviceGone,
                ExitCode::Left | ExitCode::SupervisorGone | ExitCode::Panicked => Self::Fault,
            },
            EndClass::UnknownCode
            | EndClass::NotWaited
            | EndClass::KilledByUs
            | EndClass::Crashed => Self::Fault,
            EndClass::KernelOutOfMemory => Self::KernelOutOfMemory,
            EndClass::MemoryLimit | EndClass::AllocationFailed => memory,
            EndClass::Killed | EndClass::KilledByOperator => Self::Outside,
            EndClass::ReadFailed => Self::CannotLoad,
            // Neither is an exit: the first had no process, the second has one.
            EndClass::NotStarted | EndClass::NotReaped => Self::Outside,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::event::{Exit, KilledBy};

    fn signal(signal: i32, by: KilledBy) -> Exit {
        Exit::Signal { signal, by }
    }

    #[test]
    fn only_what_a_worker_did_itself_accuses_its_job() {
        let accused = |exit| Cause::of(EndClass::of(exit, None), false).accuses_job();
        for own in [4, 5, 6, 7, 8, 11, 31] {
            assert!(accused(signal(own, KilledBy::Other)), "signal {own}");
        }
        for sent in [1, 2, 3, 9, 15] {
            assert!(!accused(signal(sent, KilledBy::Other)), "signal {sent}");
        }
        assert!(!accused(signal(7, KilledBy::CutFile)));
        for signal_number in [9, 10, 11] {
            assert!(!accused(signal(signal_number, KilledBy::Operator)));
        }
        assert!(!accused(signal(9, KilledBy::KernelOom)));
        assert!(!accused(signal(9, KilledBy::OwnLimit)));
        assert!(!accused(signal(6, KilledBy::AllocationFailed)));
        assert!(accused(Exit::Code(85)));
        for code in [66, 75, 78, 80, 81, 82, 83] {
            assert!(!accused(Exit::Code(code)), "code {code}");
        }
    }

    #[test]
    fn each_exit_code_has_its_cause() {
        let cause = |code: ExitCode, loading| {
            Cause::of(
                EndClass::of(Exit::Code(i32::from(code.number())), None),
                loading,
            )
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
        let accused = |why| Cause::of(EndClass::of(killed, Some(why)), false).accuses_job();
        assert!(accused(StopReason::Stuck) && accused(StopReason::Protocol));
        assert!(!accused(StopReason::Starved) && !accused(StopReason::Silent));
        assert!(!accused(StopReason::Outgrown));
    }

    #[test]
    fn a_model_is_not_blamed_for_what_the_machine_did() {
        let nobodys = |exit| Cause::of(EndClass::of(exit, None), true).is_nobodys();
        assert!(nobodys(signal(9, KilledBy::Other)) && nobodys(signal(9, KilledBy::KernelOom)));
        assert!(nobodys(Exit::Code(81)) && nobodys(Exit::Code(82)));
        assert!(!nobodys(signal(11, KilledBy::Other)) && !nobodys(signal(7, KilledBy::Other)));
        assert!(!nobodys(signal(9, KilledBy::OwnLimit)));
    }
}
