//! Why workers are started and stopped.

/// Why a worker is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartReason {
    /// Jobs wait for a model without a worker.
    ColdStart,
    /// All workers were busy and a job had waited long enough.
    Growth,
    /// A worker died.
    Replacement,
    /// A job may run on one device only, which had no worker.
    Constraint,
    /// The model keeps workers: it is pinned, started or scaled by an operator, or has `min_workers`.
    Floor,
}

impl StartReason {
    /// The word in logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::ColdStart => "cold_start",
            Self::Growth => "growth",
            Self::Replacement => "replacement",
            Self::Constraint => "constraint",
            Self::Floor => "floor",
        }
    }
}

/// A reason to stop a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// Idle for too long.
    Idle,
    /// To make room for another model.
    Evicted,
    /// An operator stopped or restarted it.
    Operator,
    /// An operator wants fewer workers of its model.
    Scaled,
    /// The pool shuts down.
    Drain,
    /// No job waits for its load any more.
    Abandoned,
    /// No hello in time.
    NoHello,
    /// No sign of life in time.
    Silent,
    /// Signs of life, but no progress.
    Stuck,
    /// No progress for too long, and too little CPU or disk time to make any.
    Starved,
    /// It went on with a cancelled job.
    IgnoredCancel,
    /// It broke the protocol.
    Protocol,
    /// It outgrew its reservation, and the limit of its device would be passed.
    Outgrown,
    /// Its model is no longer in the registry, or changed.
    Outdated,
    /// The pool leaves its memory to other programs for a while.
    Yielded,
}

impl StopReason {
    /// The worker itself gave the reason: its end counts as a death.
    pub fn is_fault(self) -> bool {
        match self {
            Self::Idle
            | Self::Evicted
            | Self::Operator
            | Self::Scaled
            | Self::Drain
            | Self::Abandoned
            | Self::Outdated
            | Self::Yielded => false,
            Self::NoHello
            | Self::Silent
            | Self::Stuck
            | Self::Starved
            | Self::IgnoredCancel
            | Self::Protocol
            | Self::Outgrown => true,
        }
    }

    /// The word in logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Evicted => "evicted",
            Self::Operator => "operator",
            Self::Scaled => "scaled",
            Self::Drain => "drain",
            Self::Abandoned => "abandoned",
            Self::NoHello => "no_hello",
            Self::Silent => "silent",
            Self::Stuck => "stuck",
            Self::Starved => "starved",
            Self::IgnoredCancel => "ignored_cancel",
            Self::Protocol => "protocol",
            Self::Outgrown => "outgrown",
            Self::Outdated => "outdated",
            Self::Yielded => "yielded",
        }
    }

    /// The meaning in a few words.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Idle => "idle for too long",
            Self::Evicted => "another model needs its memory",
            Self::Operator => "an operator stopped or restarted it",
            Self::Scaled => "an operator wants fewer workers",
            Self::Drain => "the pool shuts down",
            Self::Abandoned => "no job waits for its load any more",
            Self::NoHello => "no greeting in time",
            Self::Silent => "no sign of life in time",
            Self::Stuck => "signs of life, but no progress",
            Self::Starved => "too little of the processor or the disk to make progress",
            Self::IgnoredCancel => "it continued a cancelled job",
            Self::Protocol => "it broke the protocol",
            Self::Outgrown => "it holds more memory than was reserved for it, which others need",
            Self::Outdated => "its model changed or is no longer offered",
            Self::Yielded => "the pool leaves its memory to other programs for a while",
        }
    }
}
