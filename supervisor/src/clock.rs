//! The clock; no other file reads the time.

#![expect(
    clippy::disallowed_methods,
    reason = "this module is the clock; all other code gets the time from it"
)]

use std::time::{Duration, Instant, SystemTime};

use nix::time::{ClockId, clock_gettime};
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

    /// The date of now: UTC, RFC 3339, with milliseconds. It may jump; no decision uses it.
    pub fn date(self) -> String {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        rfc3339(since.unwrap_or_default())
    }

    /// Seconds since 1970 (UTC), for lists that people read. It may jump; no decision uses it.
    pub fn unix_seconds(self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs())
    }

    /// Milliseconds since 1970 (UTC), for ages that outlive the daemon. It may jump.
    pub fn unix_ms(self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
    }

    /// Microseconds of the kernel's monotonic clock, which a service manager compares with its own.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn kernel_us(self) -> nix::Result<u64> {
        let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
        Ok(u64::try_from(now.as_micros()).unwrap_or(u64::MAX))
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

/// The date of a number of seconds since 1970: UTC, RFC 3339.
pub fn date_of(seconds: u64) -> String {
    rfc3339(Duration::from_secs(seconds)).replace(".000Z", "Z")
}

/// Formats a time since 1970 (UTC) as RFC 3339, with milliseconds.
fn rfc3339(since: Duration) -> String {
    let seconds = since.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let ms = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Returns year, month and day of a number of days since 1970. Counts from the first of March of the year 0, so that a
/// leap day is the last of its year (<https://howardhinnant.github.io/date_algorithms.html#civil_from_days>).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_rfc_3339() {
        // As `date -u -d @SECONDS` prints them.
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (1_735_689_600, "2025-01-01T00:00:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(Duration::from_secs(seconds)), date);
        }
        let late = Duration::from_millis(1_500);
        assert_eq!(rfc3339(late), "1970-01-01T00:00:01.500Z");
    }
}
