//! A rate limit with a burst (a leaky bucket).

use std::time::Duration;

use pool::Moment;

/// The rate limit of one source. Amounts are in a unit that the caller chooses, such as frames or bytes.
#[derive(Debug, Clone)]
pub struct Allowance {
    per_second: u64,
    burst: u64,
    /// When the rate will have covered all amounts taken so far, in nanoseconds of the caller's clock. If this is ahead
    /// by the duration of a whole burst, nothing more may be taken.
    paid: u128,
}

impl Allowance {
    /// Creates a limit that allows `burst` at once and then `per_second`.
    pub fn new(per_second: u64, burst: u64) -> Self {
        Self {
            per_second: per_second.max(1),
            burst: burst.max(1),
            paid: 0,
        }
    }

    /// Takes `amount`; an amount above the burst counts as the burst.
    ///
    /// # Errors
    /// The limit is reached and nothing was taken; the error is the time to wait before the next try.
    pub fn take(&mut self, now: Moment, amount: u64) -> Result<(), Duration> {
        let now = u128::from(now.0) * 1000;
        let paid = self.paid.max(now) + self.nanos(amount.min(self.burst));
        match paid.checked_sub(now + self.nanos(self.burst)) {
            None | Some(0) => {
                self.paid = paid;
                Ok(())
            }
            Some(wait) => Err(Duration::from_nanos(
                u64::try_from(wait).unwrap_or(u64::MAX),
            )),
        }
    }

    fn nanos(&self, amount: u64) -> u128 {
        u128::from(amount) * 1_000_000_000 / u128::from(self.per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Moment {
        Moment(ms * 1000)
    }

    #[test]
    fn a_burst_is_allowed_at_once_and_then_the_rate() {
        let mut allowance = Allowance::new(10, 3);
        let now = ms(5000);
        for _ in 0..3 {
            assert_eq!(allowance.take(now, 1), Ok(()));
        }
        let wait = Duration::from_millis(100);
        assert_eq!(allowance.take(now, 1), Err(wait));
        assert_eq!(allowance.take(now, 1), Err(wait), "a refusal takes nothing");
        assert_eq!(allowance.take(now + wait, 1), Ok(()));
        assert_eq!(allowance.take(now + wait, 1), Err(wait));
    }

    #[test]
    fn at_most_one_burst_accumulates() {
        let mut allowance = Allowance::new(10, 3);
        assert_eq!(allowance.take(ms(0), 3), Ok(()));
        assert_eq!(allowance.take(ms(100_000), 2), Ok(()));
        assert_eq!(allowance.take(ms(100_000), 1), Ok(()));
        assert!(allowance.take(ms(100_000), 1).is_err());
    }

    #[test]
    fn an_amount_above_the_burst_waits_for_a_whole_burst() {
        let mut allowance = Allowance::new(10, 3);
        assert_eq!(allowance.take(ms(0), 1000), Ok(()));
        assert_eq!(allowance.take(ms(0), 1000), Err(Duration::from_millis(300)));
    }
}
