//! How far two rows of values are apart, and how far they may be.

/// Distance of ours from the reference's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distance {
    /// Largest difference of one value.
    pub max: f64,
    /// Length of the difference over the length of the reference.
    pub relative: f64,
    /// Share of values that differ at all.
    pub off: f64,
    /// Largest value of the reference.
    pub largest: f64,
}

impl Distance {
    /// Measures `ours` against `reference`; rows of different lengths are infinitely far apart.
    pub fn between(
        ours: impl ExactSizeIterator<Item = f64>,
        reference: impl ExactSizeIterator<Item = f64>,
    ) -> Distance {
        let count = reference.len();
        if ours.len() != count {
            let far = f64::INFINITY;
            return Distance {
                max: far,
                relative: far,
                off: 1.0,
                largest: 0.0,
            };
        }
        let (mut max, mut largest, mut off) = (0f64, 0f64, 0usize);
        let (mut difference, mut length) = (0f64, 0f64);
        for (our, golden) in ours.zip(reference) {
            // A value that is not finite must not hide behind a maximum, which ignores NaN.
            let apart = if our.is_finite() {
                (our - golden).abs()
            } else {
                f64::INFINITY
            };
            max = max.max(apart);
            largest = largest.max(golden.abs());
            off += usize::from(our != golden);
            difference += apart * apart;
            length += golden * golden;
        }
        let relative = if difference == 0.0 {
            0.0
        } else {
            (difference / length).sqrt()
        };
        Distance {
            max,
            relative,
            off: off as f64 / count.max(1) as f64,
            largest,
        }
    }
}

/// What a part may differ by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bar {
    /// Every value equal.
    Equal,
    /// Relative distance at most `relative`, no value off by more than `max * max(1, largest)`.
    Close {
        /// Bound of [`Distance::relative`].
        relative: f64,
        /// Bound of [`Distance::max`], over the largest value if that is above 1.
        max: f64,
    },
    /// Relative distance at most a quarter more than the reference's own in the same precision.
    Beside {
        /// The reference's own relative distance.
        theirs: f64,
    },
    /// Bytes at most 1 apart, on at most this share.
    Bytes {
        /// Bound of [`Distance::off`].
        off: f64,
    },
}

impl Bar {
    /// f32 parts that are fed the reference's own input.
    pub const PART: Bar = Bar::Close {
        relative: 5e-6,
        max: 1e-5,
    };
    /// f32 latents that run free from the first noise.
    pub const FREE: Bar = Bar::Close {
        relative: 1e-5,
        max: 2e-5,
    };
    /// Bytes of a picture.
    pub const BYTES: Bar = Bar::Bytes { off: 1e-3 };
    /// Parts in half precision against a reference in f32, on random weights.
    pub const HALF: Bar = Bar::Close {
        relative: 2e-2,
        max: f64::INFINITY,
    };
    /// Latents and bytes in half precision that run free.
    pub const HALF_FREE: Bar = Bar::Close {
        relative: 4e-2,
        max: f64::INFINITY,
    };

    /// The same bar, that many times as wide where it is about closeness.
    #[must_use]
    pub fn times(self, wider: f64) -> Bar {
        match self {
            Bar::Close { relative, max } => Bar::Close {
                relative: relative * wider,
                max: max * wider,
            },
            other => other,
        }
    }

    /// Whether a distance is within this bar.
    pub fn holds(&self, distance: &Distance) -> bool {
        match *self {
            Bar::Equal => distance.max == 0.0,
            Bar::Close { relative, max } => {
                distance.relative <= relative && distance.max <= max * distance.largest.max(1.0)
            }
            Bar::Beside { theirs } => distance.relative <= 1.25 * theirs,
            Bar::Bytes { off } => distance.max <= 1.0 && distance.off <= off,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(ours: &[f64], reference: &[f64]) -> Distance {
        Distance::between(ours.iter().copied(), reference.iter().copied())
    }

    #[test]
    fn each_bar_can_be_broken() {
        let reference = [1.0, -4.0, 0.5];
        assert!(Bar::Equal.holds(&between(&reference, &reference)));
        assert!(!Bar::Equal.holds(&between(&[1.0, -4.0, 0.500001], &reference)));
        assert!(Bar::PART.holds(&between(&[1.000_01, -4.0, 0.5], &reference)));
        assert!(!Bar::PART.holds(&between(&[1.000_03, -4.0, 0.5], &reference)));
        assert!(Bar::FREE.holds(&between(&[1.000_03, -4.0, 0.5], &reference)));
        assert!(!Bar::BYTES.holds(&between(&[2.0, 6.0], &[2.0, 4.0])));
    }

    #[test]
    fn values_that_are_not_finite_and_missing_values_break_every_bar() {
        for ours in [vec![f64::NAN, 1.0], vec![1.0]] {
            let distance = between(&ours, &[0.0, 1.0]);
            for bar in [Bar::Equal, Bar::PART, Bar::FREE, Bar::BYTES, Bar::HALF] {
                assert!(!bar.holds(&distance), "{bar:?} {distance:?}");
            }
        }
    }
}
