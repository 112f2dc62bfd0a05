//! When a model that failed may be tried again.
//!
//! Back-off after deaths, a cool-down after loads that cannot work, a breaker after failures in a row.

use std::time::Duration;

use crate::moment::Moment;
use crate::settings::Settings;

/// A model's record of failures.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Record {
    deaths_in_a_row: u32,
    restart_at: Option<Moment>,
    cooling: Option<Cooling>,
    load_failures_in_a_row: u32,
    /// Loads in a row that showed no progress.
    hung_loads: u32,
    /// Loads in a row that something outside ended.
    lost_loads: u32,
    /// Processes in a row that could not be made.
    no_starts: u32,
    bad_luck: BadLuck,
    breaker: Breaker,
    /// What the last failure was, until a picture is made.
    last: Option<String>,
}

/// Deaths in a short time that nobody here is to blame for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct BadLuck {
    since: Moment,
    count: u32,
}

/// Within this time such deaths are counted together, and after so many each replacement waits.
const BAD_LUCK_WINDOW: Duration = Duration::from_secs(30);
const BAD_LUCK_FREE: u32 = 5;
/// The wait between two starts that keeps bad luck from spinning.
const PAUSE: Duration = Duration::from_secs(1);
/// So many loads in a row may be ended from outside before waiting jobs are told.
const LOST_LOADS_MAX: u32 = 16;
/// So many starts in a row may find no process before waiting jobs are told.
const NO_STARTS_MAX: u32 = 5;
/// How long no process is tried after that.
const NO_START_COOLING: Duration = Duration::from_secs(10);
/// Bytes that are kept of what a failure was.
const LAST_BYTES_MAX: usize = 500;

/// A load that cannot work now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cooling {
    pub(crate) until: Moment,
    pub(crate) message: String,
    /// Trying again helps only once somebody has mended something.
    pub(crate) to_mend: bool,
}

/// Whether the model's work is trusted.
#[derive(Debug, Clone, PartialEq)]
enum Breaker {
    Closed { failures: u32 },
    Open { until: Moment, failures: u32 },
    Probing { successes: u32, failures: u32 },
}

/// What a record allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict<'a> {
    /// Start and run.
    Go,
    /// One worker, one job at a time.
    Probe,
    /// Run on what lives; start nothing before this moment.
    BackOff(Moment),
    /// A load failed.
    Cool(&'a Cooling),
    /// The breaker is open until this moment, after so many failures.
    Open(Moment, u32),
}

impl Default for Breaker {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

impl Record {
    pub(crate) fn verdict(&self, now: Moment) -> Verdict<'_> {
        if let Breaker::Open { until, failures } = self.breaker
            && now < until
        {
            return Verdict::Open(until, failures);
        }
        if let Some(cooling) = self.cooling.as_ref().filter(|cooling| now < cooling.until) {
            return Verdict::Cool(cooling);
        }
        if let Some(at) = self.restart_at.filter(|&at| now < at) {
            return Verdict::BackOff(at);
        }
        match self.breaker {
            Breaker::Closed { .. } => Verdict::Go,
            Breaker::Open { .. } | Breaker::Probing { .. } => Verdict::Probe,
        }
    }

    /// The next moment after `now` at which the verdict changes by itself.
    pub(crate) fn changes_at(&self, now: Moment) -> Option<Moment> {
        let open = match self.breaker {
            Breaker::Open { until, .. } => Some(until),
            Breaker::Closed { .. } | Breaker::Probing { .. } => None,
        };
        let cooling = self.cooling.as_ref().map(|cooling| cooling.until);
        let moments = [open, cooling, self.restart_at];
        moments.into_iter().flatten().filter(|&at| at > now).min()
    }

    pub(crate) fn deaths_in_a_row(&self) -> u32 {
        self.deaths_in_a_row
    }

    /// A worker died. The first replacement comes at once, then after 1, 2, 4 … 30 s.
    pub(crate) fn note_death(&mut self, now: Moment, while_loading: bool) -> Duration {
        self.deaths_in_a_row = self.deaths_in_a_row.saturating_add(1);
        let row = self.deaths_in_a_row + u32::from(while_loading);
        let backoff = match row {
            0 | 1 => Duration::ZERO,
            _ => Duration::from_secs((1_u64 << (row - 2).min(5)).min(30)),
        };
        let at = now + backoff;
        self.restart_at = self.restart_at.max(Some(at));
        backoff
    }

    /// A worker ended and nobody here is to blame. Its replacement comes at once; after many in a short time
    /// it waits a second.
    pub(crate) fn note_bad_luck(&mut self, now: Moment) -> Duration {
        if now.since(self.bad_luck.since) > BAD_LUCK_WINDOW {
            self.bad_luck = BadLuck {
                since: now,
                count: 0,
            };
        }
        self.bad_luck.count += 1;
        if self.bad_luck.count <= BAD_LUCK_FREE {
            return Duration::ZERO;
        }
        self.restart_at = self.restart_at.max(Some(now + PAUSE));
        PAUSE
    }

    /// A load was ended from outside. Says whether that was so often in a row that it counts as a failed load.
    pub(crate) fn note_lost_load(&mut self) -> bool {
        self.lost_loads += 1;
        let often = self.lost_loads >= LOST_LOADS_MAX;
        self.lost_loads *= u32::from(!often);
        often
    }

    /// A load showed no progress. Says whether that was the second in a row, which counts as a failed load.
    pub(crate) fn note_hung_load(&mut self) -> bool {
        self.hung_loads += 1;
        self.hung_loads > 1
    }

    /// No process could be made, for a reason of this machine: tried again after a second, and less often
    /// once that has happened several times in a row. Says for how long then.
    pub(crate) fn note_no_start(&mut self, now: Moment, message: &str) -> Option<Duration> {
        self.no_starts += 1;
        self.restart_at = self.restart_at.max(Some(now + PAUSE));
        if self.no_starts < NO_STARTS_MAX {
            return None;
        }
        let until = now + NO_START_COOLING;
        let message = format!("no process could be started for it: {message}");
        self.cooling = Some(Cooling {
            until,
            message,
            to_mend: false,
        });
        Some(NO_START_COOLING)
    }

    /// A process could be made.
    pub(crate) fn note_started(&mut self) {
        self.no_starts = 0;
    }

    /// A load failed in a way that trying at once cannot mend: 10 s, doubling to 5 minutes.
    pub(crate) fn note_load_failure(
        &mut self,
        now: Moment,
        message: String,
        to_mend: bool,
    ) -> Duration {
        let for_long = Duration::from_secs((10 << self.load_failures_in_a_row.min(5)).min(300));
        self.load_failures_in_a_row += 1;
        let until = now + for_long;
        self.cooling = Some(Cooling {
            until,
            message,
            to_mend,
        });
        for_long
    }

    /// Keeps what went wrong, for whoever is told that the model failed.
    pub(crate) fn note_last(&mut self, mut why: String) {
        why.truncate(why.floor_char_boundary(LAST_BYTES_MAX));
        self.last = Some(why);
    }

    /// What the last failure was.
    pub(crate) fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// The model failed at its work. Says how often in a row where that opened the breaker.
    pub(crate) fn note_failure(&mut self, now: Moment, settings: &Settings) -> Option<u32> {
        let failures = match self.breaker {
            Breaker::Closed { failures } => failures + 1,
            Breaker::Probing { failures, .. } => (failures + 1).max(settings.breaker_failures),
            Breaker::Open { until, failures } if now < until => {
                // A straggler from before it opened must not keep it open for longer.
                self.breaker = Breaker::Open {
                    until,
                    failures: failures + 1,
                };
                return None;
            }
            Breaker::Open { failures, .. } => failures + 1,
        };
        if failures < settings.breaker_failures {
            self.breaker = Breaker::Closed { failures };
            return None;
        }
        let until = now + settings.breaker_open;
        self.breaker = Breaker::Open { until, failures };
        Some(failures)
    }

    /// A load went well.
    pub(crate) fn note_ready(&mut self) {
        self.load_failures_in_a_row = 0;
        (self.hung_loads, self.lost_loads) = (0, 0);
        self.cooling = None;
    }

    /// A picture was made. Says whether that closed the breaker.
    pub(crate) fn note_success(&mut self, now: Moment, settings: &Settings) -> bool {
        self.deaths_in_a_row = 0;
        self.restart_at = None;
        self.last = None;
        let (successes, failures) = match self.breaker {
            Breaker::Closed { .. } => {
                self.breaker = Breaker::Closed { failures: 0 };
                return false;
            }
            Breaker::Open { until, .. } if now < until => return false,
            Breaker::Open { failures, .. } => (1, failures),
            Breaker::Probing {
                successes,
                failures,
            } => (successes + 1, failures),
        };
        let closed = successes >= settings.breaker_probes;
        self.breaker = match closed {
            true => Breaker::default(),
            false => Breaker::Probing {
                successes,
                failures,
            },
        };
        closed
    }

    /// An operator says the trouble is over.
    pub(crate) fn forgive(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn the_first_replacement_comes_at_once_and_the_rest_ever_later_up_to_half_a_minute() {
        let mut record = Record::default();
        let waits: Vec<u64> = (0..9)
            .map(|_| record.note_death(Moment(0), false).as_secs())
            .collect();
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn five_failures_in_a_row_open_the_breaker_and_three_probes_close_it() {
        let settings = Settings::default();
        let mut record = Record::default();
        for _ in 0..4 {
            assert_eq!(record.note_failure(Moment(0), &settings), None);
        }
        assert_eq!(record.note_failure(Moment(0), &settings), Some(5));
        assert_eq!(
            record.verdict(Moment(1)),
            Verdict::Open(Moment(60 * SECOND), 5)
        );
        let later = Moment(60 * SECOND);
        assert_eq!(record.verdict(later), Verdict::Probe);
        assert!(!record.note_success(later, &settings));
        assert!(!record.note_success(later, &settings));
        assert!(record.note_success(later, &settings));
        assert_eq!(record.verdict(later), Verdict::Go);
    }

    #[test]
    fn one_success_forgets_the_failures_before_it() {
        let settings = Settings::default();
        let mut record = Record::default();
        for _ in 0..20 {
            for _ in 0..4 {
                assert_eq!(record.note_failure(Moment(0), &settings), None);
            }
            record.note_success(Moment(0), &settings);
        }
    }

    #[test]
    fn a_failed_probe_opens_the_breaker_again() {
        let settings = Settings::default();
        let mut record = Record::default();
        for _ in 0..5 {
            record.note_failure(Moment(0), &settings);
        }
        let later = Moment(60 * SECOND);
        record.note_success(later, &settings);
        assert!(record.note_failure(later, &settings).is_some());
        assert!(matches!(record.verdict(later), Verdict::Open(..)));
    }

    #[test]
    fn a_load_that_cannot_work_is_tried_ever_later_up_to_five_minutes() {
        let mut record = Record::default();
        let waits: Vec<u64> = (0..7)
            .map(|_| {
                record
                    .note_load_failure(Moment(0), "torn".into(), true)
                    .as_secs()
            })
            .collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
        record.note_ready();
        assert_eq!(
            record
                .note_load_failure(Moment(0), "torn".into(), true)
                .as_secs(),
            10
        );
    }
}
