//! The shortest and longest measured times of a model; the pool's estimates lie between.

use std::time::Duration;

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DurationRange {
    pub(crate) least: Duration,
    pub(crate) most: Duration,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PaceBounds {
    /// Of a picture of 2^20 pixels.
    pub(crate) step: Option<DurationRange>,
    /// The largest picture whose steps were measured.
    pixels: u64,
    pub(crate) encode: Option<DurationRange>,
    pub(crate) decode: Option<DurationRange>,
    pub(crate) load: Option<DurationRange>,
}

/// Extends a range by one measurement.
pub(crate) fn saw(range: &mut Option<DurationRange>, took: Duration) {
    let (least, most) = (took, took);
    let before = range.unwrap_or(DurationRange { least, most });
    *range = Some(DurationRange {
        least: before.least.min(took),
        most: before.most.max(took),
    });
}

fn scaled(of: Duration, up: u64, down: u64) -> Duration {
    let micros = of.as_micros() * u128::from(up) / u128::from(down.max(1));
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

impl PaceBounds {
    pub(crate) fn saw_step(&mut self, took: Duration, pixels: u64) {
        saw(&mut self.step, scaled(took, 1 << 20, pixels));
        self.pixels = self.pixels.max(pixels);
    }

    /// The shortest estimate of a step.
    pub(crate) fn least_step(&self, pixels: u64) -> Option<Duration> {
        Some(scaled(self.step?.least, pixels, 1 << 20))
    }

    /// The longest estimate of a step.
    pub(crate) fn most_step(&self, pixels: u64) -> Option<Duration> {
        Some(scaled(self.step?.most, pixels.max(self.pixels), 1 << 20) + Duration::from_millis(1))
    }

    /// The shortest and the longest estimate of a whole picture.
    pub(crate) fn picture(&self, pixels: u64, steps: u32) -> Option<DurationRange> {
        let around = [self.encode, self.decode].into_iter().flatten();
        let (mut least, mut most) = (
            self.least_step(pixels)? * steps,
            self.most_step(pixels)? * steps,
        );
        for range in around {
            (least, most) = (least + range.least, most + range.most);
        }
        let rounding = Duration::from_millis(u64::from(steps) + 2);
        Some(DurationRange {
            least: least.saturating_sub(rounding),
            most: most + Duration::from_millis(2),
        })
    }
}
