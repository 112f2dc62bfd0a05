//! How fast a model was seen to be: the quickest and the slowest of everything that was measured. What
//! the pool takes for usual lies between.

use std::time::Duration;

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Range {
    pub(crate) least: Duration,
    pub(crate) most: Duration,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    /// Of 2^20 pixels.
    pub(crate) step: Option<Range>,
    /// The largest picture whose steps were measured.
    pixels: u64,
    pub(crate) encode: Option<Range>,
    pub(crate) decode: Option<Range>,
    pub(crate) load: Option<Range>,
}

pub(crate) fn saw(range: &mut Option<Range>, took: Duration) {
    let (least, most) = (took, took);
    let before = range.unwrap_or(Range { least, most });
    *range = Some(Range {
        least: before.least.min(took),
        most: before.most.max(took),
    });
}

fn scaled(of: Duration, up: u64, down: u64) -> Duration {
    let micros = of.as_micros() * u128::from(up) / u128::from(down.max(1));
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

impl Pace {
    pub(crate) fn saw_step(&mut self, took: Duration, pixels: u64) {
        saw(&mut self.step, scaled(took, 1 << 20, pixels));
        self.pixels = self.pixels.max(pixels);
    }

    /// No step of so many pixels is taken to be quicker than this.
    pub(crate) fn least_step(&self, pixels: u64) -> Option<Duration> {
        Some(scaled(self.step?.least, pixels, 1 << 20))
    }

    /// Nor slower than this.
    pub(crate) fn most_step(&self, pixels: u64) -> Option<Duration> {
        Some(scaled(self.step?.most, pixels.max(self.pixels), 1 << 20) + Duration::from_millis(1))
    }

    /// The least and the most that a whole picture is taken to need.
    pub(crate) fn picture(&self, pixels: u64, steps: u32) -> Option<Range> {
        let around = [self.encode, self.decode].into_iter().flatten();
        let (least, most) = around.fold(Default::default(), |(least, most), range| {
            (least + range.least, most + range.most)
        });
        Some(Range {
            least: (self.least_step(pixels)? * steps + least)
                .saturating_sub(Duration::from_millis(u64::from(steps) + 2)),
            most: self.most_step(pixels)? * steps + most + Duration::from_millis(2),
        })
    }
}
