//! Measured times: their percentiles, and numbers for a line of JSON.

use std::fmt;
use std::time::Duration;

/// Times of the same thing, at least one, from the shortest to the longest.
#[derive(Debug, Clone)]
pub struct SortedTimes(Vec<Duration>);

impl SortedTimes {
    /// The time that this many of 100 stay within.
    pub fn percentile(&self, percent: usize) -> Duration {
        self.0[self.0.len() * percent / 100]
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl FromIterator<Duration> for SortedTimes {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        let mut times: Vec<Duration> = times.into_iter().collect();
        times.sort_unstable();
        Self(times)
    }
}

impl fmt::Display for SortedTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p50, p99) = (self.percentile(50), self.percentile(99));
        write!(
            f,
            "p50 {p50:?}, p99 {p99:?}, at most {:?}",
            self.0[self.0.len() - 1]
        )
    }
}

/// A time in milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// A number to two places.
pub fn hundredths(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}
