//! How fast a model is, by measurement.

use std::time::Duration;

use crate::state::attempt::Attempt;
use crate::words::moment::Moment;

/// How fast a model is, by measurement.
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

impl Pace {
    /// The usual step of a picture with this many pixels.
    pub(crate) fn step(&self, pixels: u64) -> Option<Duration> {
        let (step, at) = self.step?;
        Some(scaled(step, pixels.max(at), at))
    }

    /// A whole picture from its first step.
    pub(crate) fn picture(&self, pixels: u64, steps: u32) -> Option<Duration> {
        let around = self.encode.unwrap_or_default() + self.decode.unwrap_or_default();
        Some(self.step(pixels)?.saturating_mul(steps) + around)
    }

    /// Time an attempt still takes: its unfinished steps and the decoding. Time spent in the present step
    /// shortens that step only.
    pub(crate) fn rest(&self, attempt: &Attempt, now: Moment) -> Option<Duration> {
        let step = self.step(attempt.pixels())?;
        let decode = self.decode.unwrap_or_default();
        let spent = now.since(attempt.progressed());
        let left = attempt.steps().saturating_sub(attempt.step());
        if left == 0 {
            return Some(decode.saturating_sub(spent));
        }
        let first = match attempt.step() == attempt.resume_step() {
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

    /// How long the next step of `attempt`, or its picture, usually takes; `None` if not measured.
    pub(super) fn usual(&self, attempt: &Attempt) -> Option<Duration> {
        let step = self.step(attempt.pixels())?;
        if attempt.step() >= attempt.steps() {
            return self.decode;
        }
        match attempt.step() == attempt.resume_step() {
            true => Some(self.encode? + step),
            false => Some(step),
        }
    }

    pub(crate) fn saw_step(&mut self, took: Duration, pixels: u64) {
        // The known step is scaled down as well as up: scaled up only, it would grow without bound while
        // small and large pictures alternate.
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

/// A step of `at` pixels, scaled to `pixels`.
fn scaled(step: Duration, pixels: u64, at: u64) -> Duration {
    let micros = step.as_micros() * u128::from(pixels) / u128::from(at.max(1));
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// The moving average: three parts of the known value, one part of the new one.
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
