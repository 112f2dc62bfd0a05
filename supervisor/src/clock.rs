//! The one place that asks what time it is.

#![expect(
    clippy::disallowed_methods,
    reason = "this module is the clock; everybody else is told the time"
)]

use std::time::{Duration, Instant};

use pool::Moment;

/// Monotonic time since the daemon started.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// The present moment.
    pub fn now(self) -> Moment {
        Moment(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Waits for a moment; for ever where there is none.
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
