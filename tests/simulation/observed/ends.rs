//! The meaning of a worker's end: one table of stop reasons, exit codes and signals.

use pool::{Exit, KilledBy, StopReason};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WorkerEnd {
    /// The pool stopped it for a reason that is not its fault.
    Wanted,
    /// The pool stopped it because it sent nothing any more.
    Silent,
    /// The pool stopped it because it got too little processor time.
    Starved,
    /// The pool stopped it for anything else that it did or did not do.
    Misbehaved,
    /// The machine, a device or a user of the machine ended it.
    Outside,
    /// The kernel killed it because the host had no memory left.
    KernelOutOfMemory,
    /// It had no memory for its model, or an allocation failed.
    OutOfMemory,
    /// It had no memory for its job.
    OutOfMemoryForJob,
    /// Its model's files cannot be loaded, or are not what they were.
    Files,
    /// A signal of its own, a panic, or an exit code without another meaning.
    Crashed,
}

impl WorkerEnd {
    pub(super) fn of(stop_reason: Option<StopReason>, exit: Exit) -> Self {
        match (stop_reason, exit) {
            (Some(why), _) if !is_its_fault(why) => Self::Wanted,
            (Some(StopReason::Silent), _) => Self::Silent,
            (Some(StopReason::Starved), _) => Self::Starved,
            (Some(StopReason::Outgrown), _) => Self::OutOfMemory,
            (Some(_), _) => Self::Misbehaved,
            (None, Exit::Code(66 | 78 | 83)) => Self::Files,
            (None, Exit::Code(75)) => Self::OutOfMemory,
            (None, Exit::Code(80)) => Self::OutOfMemoryForJob,
            (None, Exit::Code(81 | 82)) => Self::Outside,
            (None, Exit::Code(_)) => Self::Crashed,
            (None, Exit::Signal { signal, by }) => match (by, signal) {
                (KilledBy::KernelOom, _) => Self::KernelOutOfMemory,
                (KilledBy::AllocationFailed | KilledBy::OwnLimit, _) => Self::OutOfMemory,
                (KilledBy::CutFile, _) => Self::Files,
                (KilledBy::Operator, _) | (KilledBy::Other, 1 | 2 | 3 | 9 | 10 | 12 | 14 | 15) => {
                    Self::Outside
                }
                (KilledBy::Us | KilledBy::Other, _) => Self::Crashed,
            },
        }
    }

    /// Whether it is evidence against the job.
    pub(super) fn accuses_job(self) -> bool {
        match self {
            Self::Misbehaved | Self::Crashed => true,
            Self::Wanted
            | Self::Silent
            | Self::Starved
            | Self::Outside
            | Self::KernelOutOfMemory
            | Self::OutOfMemory
            | Self::OutOfMemoryForJob
            | Self::Files => false,
        }
    }

    /// Whether the job had too little memory, by the worker's own account.
    pub(super) fn is_out_of_memory(self) -> bool {
        matches!(self, Self::OutOfMemory | Self::OutOfMemoryForJob)
    }

    /// Whether the next load of the model gets more memory, if it ended while loading.
    pub(super) fn raises_need(self) -> bool {
        matches!(self, Self::OutOfMemory | Self::KernelOutOfMemory)
    }
}

/// Whether a worker is stopped for something that it did or did not do.
fn is_its_fault(why: StopReason) -> bool {
    match why {
        StopReason::Idle
        | StopReason::Evicted
        | StopReason::Operator
        | StopReason::Scaled
        | StopReason::Drain
        | StopReason::Abandoned
        | StopReason::Outdated
        | StopReason::Yielded => false,
        StopReason::NoHello
        | StopReason::Silent
        | StopReason::Stuck
        | StopReason::Starved
        | StopReason::Outgrown
        | StopReason::IgnoredCancel
        | StopReason::Protocol => true,
    }
}

/// The words that an explanation of an exit has to contain.
pub(super) fn words(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("code {code}"),
        Exit::Signal { signal, .. } => format!("signal {signal}"),
    }
}
