//! A model's failures, and when it may be tried again.
//!
//! Back-off after deaths, a cool-down after loads that cannot work, a breaker after failures in a row.

use std::time::Duration;

use ipc_protocol::ids::WorkerName;

use crate::words::end::EndClass;
use crate::words::moment::Moment;
use crate::words::settings::Settings;

/// A model's record of failures.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct FailureRecord {
    deaths_in_a_row: u32,
    restart_at: Option<Moment>,
    cooling: Option<Cooling>,
    load_failures_in_a_row: u32,
    /// Loads in a row that showed no progress.
    hung_loads: u32,
    /// Loads in a row that ended before the worker was ready, and not because the load failed.
    lost_loads: u32,
    /// Processes in a row that could not be made.
    no_starts: u32,
    bad_luck: BadLuck,
    breaker: Breaker,
    /// The last failure; cleared by a success.
    last: Option<String>,
    /// The worker that died last, with the class of its end; cleared by a success.
    last_death: Option<(WorkerName, EndClass)>,
}

/// Deaths in a short time that neither worker, model nor job caused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct BadLuck {
    since: Moment,
    count: u32,
}

/// Such deaths are counted together within this time; after `BAD_LUCK_FREE` of them each replacement waits.
const BAD_LUCK_WINDOW: Duration = Duration::from_secs(30);
const BAD_LUCK_FREE: u32 = 5;
/// The wait between two starts that keeps bad luck from spinning.
const PAUSE: Duration = Duration::from_secs(1);
/// Loads in a row that may end before the worker is ready until the waiting jobs fail.
const LOST_LOADS_MAX: u32 = 16;
/// Starts in a row that may fail to make a process before the waiting jobs fail.
const NO_STARTS_MAX: u32 = 5;
/// How long no start is tried after that.
const NO_START_COOLING: Duration = Duration::from_secs(10);
/// Bytes kept of the message of the last failure.
const LAST_BYTES_MAX: usize = 500;

/// A load that cannot work now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cooling {
    until: Moment,
    message: String,
    to_mend: bool,
}

impl Cooling {
    /// The moment of the next try.
    pub(crate) fn until(&self) -> Moment {
        self.until
    }

    /// Returns the failure's message.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Another try helps only after an operator has mended the cause.
    pub(crate) fn is_to_mend(&self) -> bool {
        self.to_mend
    }
}

/// Whether the model's work is trusted.
#[derive(Debug, Clone, PartialEq)]
enum Breaker {
    Closed { failures: u32 },
    Open { until: Moment, failures: u32 },
    Probing { successes: u32, failures: u32 },
}

/// A record's verdict on the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RestartVerdict<'a> {
    /// Start and run.
    Go,
    /// One worker, one job at a time.
    Probe,
    /// Live workers may run jobs; none may start before this moment.
    BackOff(Moment),
    /// A load failed.
    Cool(&'a Cooling),
    /// The breaker is open until this moment, after this many failures.
    Open(Moment, u32),
}

impl Default for Breaker {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

impl FailureRecord {
    pub(crate) fn verdict(&self, now: Moment) -> RestartVerdict<'_> {
        if let Breaker::Open { until, failures } = self.breaker
            && now < until
        {
            return RestartVerdict::Open(until, failures);
        }
        if let Some(cooling) = self.cooling.as_ref().filter(|cooling| now < cooling.until) {
            return RestartVerdict::Cool(cooling);
        }
        if let Some(at) = self.restart_at.filter(|&at| now < at) {
            return RestartVerdict::BackOff(at);
        }
        match self.breaker {
            Breaker::Closed { .. } => RestartVerdict::Go,
            Breaker::Open { .. } | Breaker::Probing { .. } => RestartVerdict::Probe,
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

    /// Notes the death of a worker. The first replacement comes at once, then after 1, 2, 4 … 30 s.
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

    /// Notes the end of a worker that neither it, its model nor its job caused. The replacement comes at once;
    /// after many such ends in a short time it waits a second.
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

    /// Notes a load that ended before the worker was ready. Returns whether that happened often enough in a row for
    /// the waiting jobs to fail.
    pub(crate) fn note_lost_load(&mut self) -> bool {
        self.lost_loads += 1;
        let often = self.lost_loads >= LOST_LOADS_MAX;
        self.lost_loads *= u32::from(!often);
        often
    }

    /// Notes a load without progress. Returns whether it was the second in a row, which counts as a failed load.
    pub(crate) fn note_hung_load(&mut self) -> bool {
        self.hung_loads += 1;
        self.hung_loads > 1
    }

    /// Notes that this machine could not make a process: it is tried again after a second. After several times in
    /// a row the model cools down; returns for how long.
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

    /// Notes that the supervisor had no descriptor left for a process: it is tried again after a second, however often.
    pub(crate) fn note_no_descriptors(&mut self, now: Moment) {
        self.restart_at = self.restart_at.max(Some(now + PAUSE));
    }

    /// Notes that a process was made.
    pub(crate) fn note_started(&mut self) {
        self.no_starts = 0;
    }

    /// Notes a failed load that another try at once cannot mend: the next waits 10 s, doubling to 5 minutes.
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

    /// Keeps the message of a failure for later refusals.
    pub(crate) fn note_last(&mut self, mut why: String) {
        why.truncate(why.floor_char_boundary(LAST_BYTES_MAX));
        self.last = Some(why);
    }

    /// Keeps the name of the worker that died last, and the class of its end.
    pub(crate) fn note_last_death(&mut self, worker: WorkerName, class: EndClass) {
        self.last_death = Some((worker, class));
    }

    /// The worker that died last, with the class of its end.
    pub(crate) fn last_death(&self) -> Option<&(WorkerName, EndClass)> {
        self.last_death.as_ref()
    }

    /// The message of the last failure.
    pub(crate) fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// Notes a failure at work. Returns the failures in a row if this one opened the breaker.
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

    /// Notes a successful load.
    pub(crate) fn note_ready(&mut self) {
        self.load_failures_in_a_row = 0;
        (self.hung_loads, self.lost_loads) = (0, 0);
        self.cooling = None;
    }

    /// Notes a finished picture. Returns whether it closed the breaker.
    pub(crate) fn note_success(&mut self, now: Moment, settings: &Settings) -> bool {
        self.deaths_in_a_row = 0;
        self.restart_at = None;
        (self.last, self.last_death) = (None, None);
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

    /// Forgets all failures, because an operator or new files ask for a new start.
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
        let mut record = FailureRecord::default();
        let waits: Vec<u64> = (0..9)
            .map(|_| record.note_death(Moment(0), false).as_secs())
            .collect();
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn five_failures_in_a_row_open_the_breaker_and_three_probes_close_it() {
        let settings = Settings::default();
        let mut record = FailureRecord::default();
        for _ in 0..4 {
            assert_eq!(record.note_failure(Moment(0), &settings), None);
        }
        assert_eq!(record.note_failure(Moment(0), &settings), Some(5));
        assert_eq!(
            record.verdict(Moment(1)),
            RestartVerdict::Open(Moment(60 * SECOND), 5)
        );
        let later = Moment(60 * SECOND);
        assert_eq!(record.verdict(later), RestartVerdict::Probe);
        assert!(!record.note_success(later, &settings));
        assert!(!record.note_success(later, &settings));
        assert!(record.note_success(later, &settings));
        assert_eq!(record.verdict(later), RestartVerdict::Go);
    }

    #[test]
    fn one_success_forgets_the_failures_before_it() {
        let settings = Settings::default();
        let mut record = FailureRecord::default();
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
        let mut record = FailureRecord::default();
        for _ in 0..5 {
            record.note_failure(Moment(0), &settings);
        }
        let later = Moment(60 * SECOND);
        record.note_success(later, &settings);
        assert!(record.note_failure(later, &settings).is_some());
        assert!(matches!(record.verdict(later), RestartVerdict::Open(..)));
    }

    #[test]
    fn a_load_that_cannot_work_is_tried_ever_later_up_to_five_minutes() {
        let mut record = FailureRecord::default();
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
