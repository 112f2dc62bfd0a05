//! How far the pool is wound down.

use crate::words::moment::Moment;

/// How far the pool is wound down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It takes requests.
    Serving,
    /// It takes no requests, but stays up.
    Refusing { since: Moment },
    /// It finishes its jobs until a moment, then exits.
    Leaving { since: Moment, until: Moment },
    /// It has returned `Exit`.
    Gone { since: Moment },
}

impl Phase {
    /// It takes no requests.
    pub(crate) fn refuses(self) -> bool {
        match self {
            Self::Serving => false,
            Self::Refusing { .. } | Self::Leaving { .. } | Self::Gone { .. } => true,
        }
    }

    /// Since when it takes no requests.
    pub(crate) fn since(self) -> Option<Moment> {
        match self {
            Self::Refusing { since } | Self::Leaving { since, .. } | Self::Gone { since } => {
                Some(since)
            }
            Self::Serving => None,
        }
    }

    /// The phase after a drain was requested: until a moment, or without an end.
    pub(crate) fn drained(self, now: Moment, until: Option<Moment>) -> Self {
        let since = self.since().unwrap_or(now);
        match (self, until) {
            (Self::Serving | Self::Refusing { .. }, None) => Self::Refusing { since },
            (Self::Serving | Self::Refusing { .. }, Some(until)) => Self::Leaving { since, until },
            (Self::Leaving { until: before, .. }, Some(until)) => Self::Leaving {
                since,
                until: before.min(until),
            },
            (before @ (Self::Leaving { .. } | Self::Gone { .. }), _) => before,
        }
    }
}
