//! The clock; no other file reads the time.

#![expect(
    clippy::disallowed_methods,
    reason = "this module is the clock; all other code gets the time from it"
)]

use std::time::{Duration, Instant, SystemTime};

use pool::Moment;

/// Measures monotonic time since the daemon started.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
    /// The same moment, since 1970.
    wall: Duration,
}

impl Clock {
    /// Starts a clock at zero.
    pub fn start() -> Self {
        Self {
            origin: Instant::now(),
            // A machine whose clock is before 1970 has no date yet.
            wall: SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default(),
        }
    }

    /// Returns a moment as nanoseconds since 1970, for people and other programs: decisions use moments. The date is
    /// read once, at the start, so that times of one daemon keep their order.
    pub fn wall_ns(self, moment: Moment) -> u64 {
        let since = self.wall + Duration::from_micros(moment.0);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Returns the current moment.
    pub fn now(self) -> Moment {
        Moment(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Seconds since 1970 (UTC), for lists that people read. It may jump; no decision uses it.
    pub fn unix_seconds(self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs())
    }

    /// Waits until a moment; without one, waits forever.
    pub async fn wait_until(self, moment: Option<Moment>) {
        match moment {
            None => std::future::pending().await,
            Some(moment) => {
                let at = self.origin + Duration::from_micros(moment.0);
                tokio::time::sleep_until(at.into()).await;
            }
        }
    }
}
