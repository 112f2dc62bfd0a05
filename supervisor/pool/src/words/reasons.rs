//! Why workers are started and stopped.

/// Why a worker is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartReason {
    /// Jobs wait and the model had no worker.
    ColdStart,
    /// Every worker was busy for too long.
    Growth,
    /// One died.
    Replacement,
    /// A job wished for a device without a worker.
    Wish,
    /// Pinned, `min_workers`, `start`ed or `scale`d.
    Floor,
}

/// Why a worker is told to leave.
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
    /// The pool winds down.
    Drain,
    /// Nobody waits for this load any more.
    Abandoned,
    /// No hello in time.
    NoHello,
    /// No sign of life in time.
    Silent,
    /// Signs of life, but no progress.
    Stuck,
    /// No progress for too long, and too little of the processor or of a disk to make any.
    Starved,
    /// It kept on with a cancelled job.
    IgnoredCancel,
    /// It broke the protocol.
    Protocol,
    /// Its model is no longer in the registry, or changed.
    Outdated,
}

impl StopReason {
    /// Nobody wanted it gone before it gave the reason: its end counts as a death.
    pub fn is_fault(self) -> bool {
        match self {
            Self::Idle
            | Self::Evicted
            | Self::Operator
            | Self::Scaled
            | Self::Drain
            | Self::Abandoned
            | Self::Outdated => false,
            Self::NoHello
            | Self::Silent
            | Self::Stuck
            | Self::Starved
            | Self::IgnoredCancel
            | Self::Protocol => true,
        }
    }

    /// The word for it in logs and metrics.
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
            Self::Outdated => "outdated",
        }
    }
}
