//! How much a source may bring: a steady rate, with a burst that is saved up while it brings less.

use std::time::Duration;

use pool::Moment;

/// The allowance of one source. Amounts are in units of the caller's choice, such as frames or bytes.
#[derive(Debug, Clone)]
pub struct Allowance {
    per_second: u64,
    burst: u64,
    /// When everything that was taken is paid for by the rate, in nanoseconds of the caller's clock. While this
    /// lies ahead by the time that a whole burst takes, nothing more may be taken.
    paid: u128,
}

impl Allowance {
    /// A full one: `burst` at once, and `per_second` from then on.
    pub fn new(per_second: u64, burst: u64) -> Self {
        Self {
            per_second: per_second.max(1),
            burst: burst.max(1),
            paid: 0,
        }
    }

    /// Takes `amount`.
    ///
    /// # Errors
    /// How long to wait until there is so much; nothing is taken. An amount beyond the burst counts as the burst.
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
    fn a_burst_may_come_at_once_and_the_rate_from_then_on() {
        let mut allowance = Allowance::new(10, 3);
        let now = ms(5000);
        for _ in 0..3 {
            assert_eq!(allowance.take(now, 1), Ok(()));
        }
        let wait = Duration::from_millis(100);
        assert_eq!(allowance.take(now, 1), Err(wait));
        assert_eq!(allowance.take(now, 1), Err(wait), "a refusal costs nothing");
        assert_eq!(allowance.take(now + wait, 1), Ok(()));
        assert_eq!(allowance.take(now + wait, 1), Err(wait));
    }

    #[test]
    fn no_more_than_a_burst_is_saved_up() {
        let mut allowance = Allowance::new(10, 3);
        assert_eq!(allowance.take(ms(0), 3), Ok(()));
        assert_eq!(allowance.take(ms(100_000), 2), Ok(()));
        assert_eq!(allowance.take(ms(100_000), 1), Ok(()));
        assert!(allowance.take(ms(100_000), 1).is_err());
    }

    #[test]
    fn more_than_a_burst_waits_for_a_whole_one() {
        let mut allowance = Allowance::new(10, 3);
        assert_eq!(allowance.take(ms(0), 1000), Ok(()));
        assert_eq!(allowance.take(ms(0), 1000), Err(Duration::from_millis(300)));
    }
}
