//! One model in the pool: what is wanted of it, how it does, and who waits for it.

use std::collections::BTreeSet;
use std::time::Duration;

use ipc_protocol::ids::{Device, Generation, JobId};
use ipc_protocol::status::WorkerState;
use ipc_protocol::units::{Mebibytes, PictureSize};

use crate::budget::Amount;
use crate::event::Footprint;
use crate::job::Attempt;
use crate::moment::Moment;
use crate::queue::Queue;
use crate::registry::{Files, ModelSpec};
use crate::restart::{Record, Verdict};
use crate::settings::{Patience, Settings};
use crate::watch::Limits;

/// So many usual steps without one are a hang.
const STEPS_OF_PATIENCE: u32 = 10;

/// A model's place in the pool; never used for another model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ModelId(pub(crate) usize);

/// A model and everything about it.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) spec: ModelSpec,
    /// No longer in the registry.
    pub(crate) retired: bool,
    /// An operator stopped it.
    pub(crate) stopped: bool,
    /// Slots an operator stopped one by one.
    pub(crate) held_slots: Vec<u32>,
    pub(crate) pinned: bool,
    /// Workers an operator wants kept.
    pub(crate) kept: u32,
    /// Workers that died and may be replaced without waiting for the growth rule.
    pub(crate) to_replace: u32,
    pub(crate) record: Record,
    pub(crate) queue: Queue,
    /// Those of its waiting jobs that wish for one device.
    pub(crate) wishing: BTreeSet<JobId>,
    /// Workers not reaped, oldest first.
    pub(crate) workers: Vec<Generation>,
    pub(crate) pace: Pace,
    /// Worst seen.
    pub(crate) worst: Footprint,
    /// Added after running out of memory while loading, in percent of the need.
    pub(crate) raised_percent: u64,
    pub(crate) deaths: u64,
    /// Since when all its workers are idle.
    pub(crate) idle_since: Option<Moment>,
    /// What it needs, on every device, while others hold a part of it.
    pub(crate) lacks: Vec<Lacking>,
    /// Idle workers of others were told to leave for it.
    pub(crate) evicting: bool,
    pub(crate) at_rest: (WorkerState, &'static str),
}

/// A part of the room that a model waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lacking {
    pub(crate) at: Device,
    pub(crate) need: Mebibytes,
    /// Others hold some of it; what is free here is waited with.
    pub(crate) short: bool,
}

/// How fast a model is, from what was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pace {
    /// A usual step and the pixels it was measured at.
    step: Option<(Duration, u64)>,
    /// Everything before the first step.
    encode: Option<Duration>,
    /// Everything after the last step.
    decode: Option<Duration>,
    load: Option<Duration>,
}

/// Whether a model may serve, and if not why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Standing<'a> {
    Retired,
    Missing(&'a str),
    Broken(&'a str),
    Unread,
    Stopped,
    Tried(Verdict<'a>),
}

impl Model {
    pub(crate) fn new(spec: ModelSpec) -> Self {
        Self {
            pinned: spec.pinned,
            spec,
            retired: false,
            stopped: false,
            held_slots: Vec::new(),
            kept: 0,
            to_replace: 0,
            record: Record::default(),
            queue: Queue::default(),
            wishing: BTreeSet::new(),
            workers: Vec::new(),
            pace: Pace::default(),
            worst: Footprint::default(),
            raised_percent: 0,
            deaths: 0,
            idle_since: None,
            lacks: Vec::new(),
            evicting: false,
            at_rest: (WorkerState::Stopped, "Not started"),
        }
    }

    pub(crate) fn standing(&self, now: Moment) -> Standing<'_> {
        if self.retired {
            return Standing::Retired;
        }
        match &self.spec.files {
            Files::Missing(why) => return Standing::Missing(why),
            Files::Broken(why) => return Standing::Broken(why),
            Files::Unread => return Standing::Unread,
            Files::Here { .. } => {}
        }
        if self.stopped {
            return Standing::Stopped;
        }
        Standing::Tried(self.record.verdict(now))
    }

    /// What its last failure was, after `lead`; nothing where none is known.
    pub(crate) fn last_failure(&self, lead: &str) -> String {
        let last = self.record.last();
        last.map(|why| format!("{lead}{why}")).unwrap_or_default()
    }

    /// Most workers it may have.
    pub(crate) fn most(&self, settings: &Settings) -> usize {
        let most = self
            .spec
            .max_workers
            .unwrap_or(settings.max_workers_per_model);
        most.max(1) as usize
    }

    /// Workers it keeps whatever the load is: one for each of the first slots that no operator holds.
    pub(crate) fn floor(&self, settings: &Settings) -> usize {
        if self.retired || self.stopped || !self.spec.files.are_here() {
            return 0;
        }
        let least = self.spec.min_workers.unwrap_or(settings.min_workers);
        let slots = 0..least.max(self.kept);
        let wanted = slots.filter(|slot| !self.held_slots.contains(slot));
        wanted
            .count()
            .max(self.pinned.into())
            .min(self.most(settings))
    }

    /// The first slots that make so many workers, beside those that are held.
    pub(crate) fn slots_for(&self, workers: usize) -> u32 {
        let free = (0..).filter(|slot| !self.held_slots.contains(slot));
        free.take(workers).last().map_or(0, |last| last + 1)
    }

    /// Residency and activation at the default size of a worker on `device`: what its start books.
    /// The larger of what was predicted and the worst that was measured plus a margin.
    pub(crate) fn need_on(&self, device: Device, settings: &Settings) -> Option<Amount> {
        let (host, part) = self.spec.residency_on(device)?;
        let activation = self.spec.need.activation.at(self.spec.default_size);
        let predicted = Amount::on(device, host, part + activation);
        let raised = |part: Mebibytes| Mebibytes(part.0 + part.0 * self.raised_percent / 100);
        let seen = |part: Mebibytes| Mebibytes(part.0 + part.0 * settings.margin_percent / 100);
        let host = raised(predicted.host).max(match device {
            Device::Host => seen(self.worst.host),
            Device::Cuda(_) => Mebibytes::ZERO,
        });
        Some(Amount {
            host,
            device: predicted
                .device
                .map(|(at, part)| (at, raised(part).max(seen(self.worst.device)))),
        })
    }

    /// How long a worker on `device` may go without the next part of its load or, with an attempt, its next
    /// step. By what was measured; where nothing was, by how much there is to do.
    pub(crate) fn limits(
        &self,
        patience: &Patience,
        device: Device,
        attempt: Option<&Attempt>,
    ) -> Limits {
        let longest = patience.longest;
        let Some(attempt) = attempt else {
            return Limits {
                still: patience.still_load.min(patience.load),
                busy: patience.load,
                longest,
            };
        };
        if let Some(usual) = self.pace.usual(attempt) {
            let most = usual.saturating_mul(STEPS_OF_PATIENCE).max(patience.step);
            return Limits {
                still: most,
                busy: most,
                longest: usual
                    .saturating_mul(10 * STEPS_OF_PATIENCE)
                    .max(patience.longest_known),
            };
        }
        let part = self.spec.residency_on(device);
        let size = part.map_or(Mebibytes::ZERO, |(host, part)| host + part);
        let busy = patience.cold
            + patience
                .cold_per_mb
                .saturating_mul(u32::try_from(size.0).unwrap_or(u32::MAX));
        let busy = busy.min(patience.first_step);
        let still = match device {
            Device::Host => patience.still.min(busy),
            // The processor may rest while the device works.
            Device::Cuda(_) => patience.first_step,
        };
        Limits {
            still,
            busy: busy.max(still),
            longest,
        }
    }

    /// Room a picture of `size` takes on `device` beyond what the start booked.
    pub(crate) fn extra_for(&self, device: Device, size: PictureSize, more: Mebibytes) -> Amount {
        let activation = &self.spec.need.activation;
        let usual = activation.at(self.spec.default_size);
        let beyond = activation.at(size).saturating_sub(usual) + more;
        Amount::on(device, Mebibytes::ZERO, beyond)
    }
}

impl Pace {
    /// The usual step for a picture of so many pixels.
    pub(crate) fn step(&self, pixels: u64) -> Option<Duration> {
        let (step, at) = self.step?;
        Some(scaled(step, pixels.max(at), at))
    }

    /// A whole picture from its first step.
    pub(crate) fn picture(&self, pixels: u64, steps: u32) -> Option<Duration> {
        let around = self.encode.unwrap_or_default() + self.decode.unwrap_or_default();
        Some(self.step(pixels)?.saturating_mul(steps) + around)
    }

    /// What is left of an attempt: its own steps that are not finished, and the decoding. What it took for
    /// the step it is in counts for no more than that step.
    pub(crate) fn rest(&self, attempt: &Attempt, now: Moment) -> Option<Duration> {
        let step = self.step(attempt.pixels)?;
        let decode = self.decode.unwrap_or_default();
        let spent = now.since(attempt.progressed);
        let left = attempt.steps.saturating_sub(attempt.step);
        if left == 0 {
            return Some(decode.saturating_sub(spent));
        }
        let first = match attempt.step == attempt.from_step {
            true => step + self.encode.unwrap_or_default(),
            false => step,
        };
        Some(first.saturating_sub(spent) + step.saturating_mul(left - 1) + decode)
    }

    pub(crate) fn load(&self) -> Option<Duration> {
        self.load
    }

    pub(crate) fn decode(&self) -> Option<Duration> {
        self.decode
    }

    /// How long the next step of `attempt`, or its picture, usually takes, where that was measured.
    fn usual(&self, attempt: &Attempt) -> Option<Duration> {
        let step = self.step(attempt.pixels)?;
        if attempt.step >= attempt.steps {
            return self.decode;
        }
        match attempt.step == attempt.from_step {
            true => Some(self.encode? + step),
            false => Some(step),
        }
    }

    pub(crate) fn saw_step(&mut self, took: Duration, pixels: u64) {
        // What was known is scaled down as well as up here: scaled up only, it would grow without
        // bound where small and large pictures take turns.
        let known = self.step.map(|(step, at)| scaled(step, pixels, at));
        self.step = Some((mixed(known, took), pixels));
    }

    pub(crate) fn saw_picture(&mut self, encode: Duration, decode: Duration) {
        self.encode = Some(mixed(self.encode, encode));
        self.decode = Some(mixed(self.decode, decode));
    }

    pub(crate) fn saw_load(&mut self, took: Duration) {
        self.load = Some(mixed(self.load, took));
    }
}

/// A step of `at` pixels as one of so many.
fn scaled(step: Duration, pixels: u64, at: u64) -> Duration {
    let micros = step.as_micros() * u128::from(pixels) / u128::from(at.max(1));
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// Three parts of what was known, one part of what was seen.
fn mixed(known: Option<Duration>, seen: Duration) -> Duration {
    known.map_or(seen, |known| (known * 3 + seen) / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_step_stays_what_it_is_while_small_and_large_pictures_take_turns() {
        let (small, large) = (512 * 512, 1536 * 1536);
        let mut pace = Pace::default();
        for _ in 0..50 {
            pace.saw_step(Duration::from_millis(100), small);
            pace.saw_step(Duration::from_millis(900), large);
        }
        assert_eq!(pace.step(large), Some(Duration::from_millis(900)));
        assert!(pace.step(small) >= Some(Duration::from_millis(100)));
    }
}
