//! Tells a hanging worker from a slow one by the processor time it gets while it makes no progress.
//!
//! ```text
//!  progress ── half of `still` ──▶ measure ── the other half ──▶ measure, and compare:
//!     neither ran nor wanted to                       it hangs
//!     ran                                             it hangs once it ran for `busy`
//!     waited for the processor, or for a disk         no hang; measured again
//!  a step or a part of the load begins it anew, and so does a finished piece of work for as long as it is `believed`;
//!  `longest` ends it in any case
//! ```

use std::time::Duration;

use crate::words::event::CpuTime;
use crate::words::moment::Moment;
use crate::words::reasons::StopReason;
use crate::words::settings::Patience;

/// How long an answer to `Measure` may take; later it counts as missing.
const MEASURE_PATIENCE: Duration = Duration::from_secs(2);
/// The shortest time between two samples that are compared.
const WINDOW_LEAST: Duration = Duration::from_secs(1);
/// A worker that wanted the processor for less than this part of a window (1/N) counts as idle.
const IDLE_PARTS: u32 = 20;

/// How long a worker may go without progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProgressLimits {
    /// While it does not even want the processor.
    pub(crate) still: Duration,
    /// While it has the processor.
    pub(crate) busy: Duration,
    /// While it counts work, without a step or a part of a load.
    pub(crate) believed: Duration,
    /// The same if it gets less of the processor or the disk than it wants.
    pub(crate) longest: Duration,
}

impl ProgressLimits {
    /// Before the hello of a worker.
    pub(crate) fn before_hello(patience: &Patience) -> Self {
        Self {
            still: patience.still,
            busy: patience.busy_hello,
            believed: patience.hello,
            longest: patience.hello,
        }
    }
}

/// Evidence about a worker since its last progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watch {
    /// The last sign of work: a step, a part of the load, a finished piece of either. Samples go on over pieces.
    quiet_since: Moment,
    /// Time since then in which it had the processor, counted up to `counted`.
    had: Duration,
    counted: Moment,
    sample: SampleState,
    /// It wanted more than it got when it was looked at last.
    wants: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SampleState {
    /// No sample, and none is asked for before half of the patience is over.
    Unknown { since: Moment },
    /// A sample was asked for.
    Asked {
        at: Moment,
        before: Option<CpuSample>,
    },
    /// The newest sample.
    Known(CpuSample),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CpuSample {
    at: Moment,
    cpu: CpuTime,
}

/// The next action at a watch's deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// A sample.
    Measure,
    /// Continue without the requested sample.
    NoSample,
    /// The end of the worker.
    End(StopReason),
}

impl Watch {
    pub(crate) fn new(now: Moment) -> Self {
        Self {
            quiet_since: now,
            had: Duration::ZERO,
            counted: now,
            sample: SampleState::Unknown { since: now },
            wants: false,
        }
    }

    /// When something is due for a worker whose last step or part of a load was at `progressed`. Limits may have
    /// shrunk since the last sample: an end that is due at `now` needs no further one.
    pub(crate) fn due(
        &self,
        limits: &ProgressLimits,
        progressed: Moment,
        now: Moment,
    ) -> (Moment, Due) {
        let half = (limits.still / 2).max(WINDOW_LEAST);
        let next = match self.sample {
            SampleState::Unknown { since } => (since + half, Due::Measure),
            SampleState::Asked { at, .. } => (at + MEASURE_PATIENCE, Due::NoSample),
            SampleState::Known(sample) => {
                let left = limits.busy.saturating_sub(self.had).max(WINDOW_LEAST);
                (sample.at + half.min(left), Due::Measure)
            }
        };
        let last = match self.wants {
            true => progressed + limits.longest,
            false => progressed + limits.believed,
        };
        match next.0 < last && now < last {
            true => next,
            false => (last, Due::End(self.reason())),
        }
    }

    /// A piece of work is finished.
    pub(crate) fn note_work(&mut self, now: Moment) {
        (self.quiet_since, self.counted, self.had) = (now, now, Duration::ZERO);
    }

    fn reason(&self) -> StopReason {
        match self.wants {
            true => StopReason::Starved,
            false => StopReason::Stuck,
        }
    }

    /// A sample is asked for.
    pub(crate) fn ask(&mut self, now: Moment) {
        let before = match self.sample {
            SampleState::Known(sample) => Some(sample),
            SampleState::Unknown { .. } | SampleState::Asked { .. } => None,
        };
        self.sample = SampleState::Asked { at: now, before };
    }

    /// Notes a sample, or that none will come. Returns why the worker has to be stopped, if it has to.
    pub(crate) fn measured(
        &mut self,
        now: Moment,
        cpu: Option<CpuTime>,
        limits: &ProgressLimits,
    ) -> Option<StopReason> {
        let SampleState::Asked { before, .. } = self.sample else {
            return None;
        };
        let Some(cpu) = cpu else {
            return self.without_sample(now, limits);
        };
        self.sample = SampleState::Known(CpuSample { at: now, cpu });
        let before = before?;
        let window = now.since(before.at);
        let ran = cpu.ran.saturating_sub(before.cpu.ran);
        let waited = cpu.waited.saturating_sub(before.cpu.waited);
        if cpu.blocked {
            (self.counted, self.wants) = (now, true);
            return None;
        }
        if (ran + waited) * IDLE_PARTS < window {
            // Had it nothing to wait for before either, it has been still for long enough.
            return (now.since(self.quiet_since) >= limits.still).then_some(StopReason::Stuck);
        }
        let share = ran.as_secs_f64() / (ran + waited).as_secs_f64();
        self.had += now.since(self.counted).mul_f64(share);
        (self.counted, self.wants) = (now, waited > ran);
        (self.had >= limits.busy).then_some(StopReason::Stuck)
    }

    /// Without evidence the time of the clock counts.
    fn without_sample(&mut self, now: Moment, limits: &ProgressLimits) -> Option<StopReason> {
        self.sample = SampleState::Unknown { since: now };
        self.had += now.since(self.counted);
        self.counted = now;
        (self.had >= limits.busy).then_some(StopReason::Stuck)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_ends_at_once_where_the_limits_shrank_below_the_time_it_had() {
        let seconds = Duration::from_secs;
        let watch = Watch::new(Moment::START);
        let now = Moment::START + seconds(100);
        let limits = |still, longest| ProgressLimits {
            still: seconds(still),
            busy: seconds(still),
            believed: seconds(longest),
            longest: seconds(longest),
        };
        let long = limits(60, 600);
        let (at, due) = watch.due(&long, Moment::START, now);
        assert_eq!((at, due), (Moment::START + seconds(30), Due::Measure));
        let short = limits(5, 90);
        let (at, due) = watch.due(&short, Moment::START, now);
        assert_eq!(at, Moment::START + seconds(90));
        assert_eq!(due, Due::End(StopReason::Stuck));
    }
}
