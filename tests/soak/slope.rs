//! The slope of a series, with an interval that holds the true one.

/// Blocks that a series is divided into. Values that follow each other closely are alike, so that each of them tells little
/// new; means over longer blocks are nearly independent.
const BLOCKS: usize = 20;
/// The quantile of Student's distribution with `BLOCKS - 2` degrees of freedom for an interval of 99.8 %: five of them miss
/// the truth in one of a hundred runs.
const QUANTILE: f64 = 3.610;

/// A slope per hour, and the half width of its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slope {
    pub per_hour: f64,
    pub half_width: f64,
}

impl Slope {
    /// Fits a line to pairs of seconds and values; `None` if there are too few.
    pub fn of(series: &[(f64, f64)]) -> Option<Self> {
        let length = series.len() / BLOCKS;
        if length == 0 {
            return None;
        }
        let rest = &series[series.len() - length * BLOCKS..];
        Some(fit(&means(rest, length)))
    }

    /// Whether the interval includes a constant series.
    pub fn includes_zero(self) -> bool {
        self.per_hour.abs() <= self.half_width
    }
}

/// The hours and the means of blocks of a series.
pub fn blocks(series: &[(f64, f64)]) -> Vec<(f64, f64)> {
    means(series, (series.len() / BLOCKS).max(1))
}

fn means(series: &[(f64, f64)], length: usize) -> Vec<(f64, f64)> {
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / length as f64;
    // What does not fill a block is left out at the beginning.
    let whole = series.len() / length * length;
    series[series.len() - whole..]
        .chunks(length)
        .map(|block| {
            let hours = mean(&mut block.iter().map(|(at, _)| at / 3600.0));
            (hours, mean(&mut block.iter().map(|(_, value)| *value)))
        })
        .collect()
}

fn fit(points: &[(f64, f64)]) -> Slope {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let both: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    let per_hour = both / spread;
    let left = |point: &(f64, f64)| point.1 - y - per_hour * (point.0 - x);
    let errors: f64 = points.iter().map(|point| left(point).powi(2)).sum();
    Slope {
        per_hour,
        half_width: QUANTILE * (errors / (count - 2.0) / spread).sqrt(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::tests::chance::Chance;

    /// 1000 values over an hour that rise by `rise`, with noise up to 1 to each side that lasts for a few values.
    fn series(rise: f64, seed: u64) -> Vec<(f64, f64)> {
        let mut chance = Chance::new(seed);
        let mut noise = 0.0;
        (0..1000)
            .map(|nth| {
                let new = chance.below(2001) as f64 / 1000.0 - 1.0;
                noise = 0.7 * noise + 0.3 * new;
                let at = f64::from(nth) * 3.6;
                (at, 50.0 + rise * at / 3600.0 + noise)
            })
            .collect()
    }

    #[test]
    fn noise_without_a_slope_includes_zero_and_is_bounded() {
        let missed = (0..100).filter(|seed| {
            let slope = Slope::of(&series(0.0, *seed)).expect("enough values");
            assert!(slope.half_width < 0.5, "{slope:?}");
            !slope.includes_zero()
        });
        assert!(missed.count() <= 2);
    }

    #[test]
    fn a_slope_as_large_as_the_noise_is_seen() {
        for seed in 0..20 {
            let slope = Slope::of(&series(1.0, seed)).expect("enough values");
            assert!(!slope.includes_zero(), "{slope:?}");
            assert!((slope.per_hour - 1.0).abs() < slope.half_width, "{slope:?}");
        }
    }

    #[test]
    fn a_constant_has_no_slope_and_few_values_have_none_that_is_known() {
        let constant: Vec<_> = (0..100).map(|at| (f64::from(at), 7.0)).collect();
        let slope = Slope::of(&constant).expect("enough values");
        assert_eq!((slope.per_hour, slope.half_width), (0.0, 0.0));
        assert!(slope.includes_zero());
        assert_eq!(Slope::of(&constant[..BLOCKS - 1]), None);
    }
}
