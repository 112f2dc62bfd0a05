//! Time as the pool sees it: a number that comes in with every event.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

/// Microseconds since the driver started, monotonic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// The start.
    pub const START: Self = Self(0);

    /// Time since `earlier`; zero if it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// Whole milliseconds, as failures have them.
pub(crate) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Add<Duration> for Moment {
    type Output = Self;

    /// Later by `patience`; a patience beyond all time means the end of time.
    fn add(self, patience: Duration) -> Self {
        let micros = u64::try_from(patience.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}
