//! The distance of two sequences of values, and the tolerances for it.

/// The distance of our values from those of the reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValueDistance {
    /// Largest absolute difference of a value.
    pub max: f64,
    /// Euclidean norm of the difference, divided by that of the reference.
    pub relative: f64,
    /// Share of values that differ.
    pub off: f64,
    /// Number of values.
    pub count: usize,
    /// Largest absolute value of the reference.
    pub largest: f64,
}

impl ValueDistance {
    /// Measures `ours` against `reference`. The distance of sequences with different lengths is infinite.
    pub fn between(
        ours: impl ExactSizeIterator<Item = f64>,
        reference: impl ExactSizeIterator<Item = f64>,
    ) -> ValueDistance {
        let count = reference.len();
        if ours.len() != count {
            let far = f64::INFINITY;
            return ValueDistance {
                max: far,
                relative: far,
                off: 1.0,
                count,
                largest: 0.0,
            };
        }
        let (mut max, mut largest, mut off) = (0f64, 0f64, 0usize);
        let (mut difference, mut length) = (0f64, 0f64);
        for (our, golden) in ours.zip(reference) {
            // `max` ignores NaN, so values that are not finite are checked here.
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
        ValueDistance {
            max,
            relative,
            off: off as f64 / count.max(1) as f64,
            count,
            largest,
        }
    }
}

/// The largest distance that a part may have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tolerance {
    /// All values are equal.
    Equal,
    /// The relative distance is at most `relative`, and no value differs by more than `max * max(1, largest)`.
    Close {
        /// Limit of [`ValueDistance::relative`].
        relative: f64,
        /// Limit of [`ValueDistance::max`], relative to the largest value if that is above 1.
        max: f64,
    },
    /// The relative distance is at most `times` that of the reference in the same precision.
    Beside {
        /// Relative distance of the reference in that precision.
        theirs: f64,
        /// [`Tolerance::BESIDE`] for a single case, [`Tolerance::BESIDE_MEAN`] for a mean over cases.
        times: f64,
    },
    /// For a part in half precision: the relative distance of a case is at most [`Tolerance::CHANCE`] times that of
    /// the mean over cases.
    Half {
        /// The largest mean over many cases.
        mean: f64,
    },
    /// Bytes differ by at most 1, and only this share of them, plus a few (`FEW_BYTES`).
    Bytes {
        /// Limit of [`ValueDistance::off`].
        off: f64,
    },
}

impl Tolerance {
    /// For f32 parts with the reference's own input.
    pub const PART: Tolerance = Tolerance::Close {
        relative: 5e-6,
        max: 1e-5,
    };
    /// For f32 latents computed from the initial noise, with our values only.
    pub const FREE: Tolerance = Tolerance::Close {
        relative: 1e-5,
        max: 2e-5,
    };
    /// For bytes of a picture.
    pub const BYTES: Tolerance = Tolerance::Bytes { off: 1e-3 };
    /// Bytes that may differ in any picture: a value half way between two is rounded either way, and one byte is
    /// 0.13 % of a picture of 16 x 16.
    const FEW_BYTES: f64 = 3.0;
    /// Limit of the mean error of small encoders' states in half precision. It was 0.004 to 0.008 on eight models
    /// with random weights.
    pub const HALF: f64 = 8.5e-3;
    /// Like [`Tolerance::HALF`], for the velocities of small transformers, measured as 0.0063 to 0.0075.
    pub const HALF_VELOCITY: f64 = 7.8e-3;
    /// Like [`Tolerance::HALF`], for a pooled state, which has few values from a single token.
    pub const HALF_POOLED: f64 = 1.3e-2;
    /// Number of blocks of a small model; with more blocks, rounding errors are larger.
    const SMALL: f64 = 5.0;
    /// The largest ratio of one case's distance to the allowed mean.
    pub const CHANCE: f64 = 2.5;
    /// Our error divided by the reference's, in one case: 1.7 was measured on four latents.
    pub const BESIDE: f64 = 2.5;
    /// Our error divided by the reference's, both as means over cases of many values: at most 0.96 was measured.
    pub const BESIDE_MEAN: f64 = 1.15;
    /// Standard deviations by which the ratio of two such means may be larger. The ratio of the norms of two random
    /// vectors of n values has a standard deviation of about 1 / sqrt(n).
    const BESIDE_DEVIATIONS: f64 = 2.5;
    /// Pixels above which the reference decodes several pictures at once less exactly than the tolerance of a part: at
    /// 256 x 256, two at once differed by 5.2e-6 to 7.5e-6 from f64, one alone by 0.9e-6 to 1.3e-6.
    const BATCH_PIXELS: f64 = 16384.0;
    /// For latents in half precision, computed from the initial noise with our values only.
    pub const HALF_FREE: Tolerance = Tolerance::Close {
        relative: 4e-2,
        max: f64::INFINITY,
    };
    /// For bytes decoded from such latents. The decoder amplifies some differences 30 times, also in the reference.
    pub const HALF_FREE_BYTES: Tolerance = Tolerance::Close {
        relative: 0.3,
        max: f64::INFINITY,
    };

    /// Returns the tolerance of a picture decoded in f32, one of `images` that the reference decoded at once.
    pub fn decoded(images: usize, pixels: usize) -> Tolerance {
        match images {
            0 | 1 => Tolerance::PART,
            _ => Tolerance::PART.times((pixels as f64 / Tolerance::BATCH_PIXELS).max(1.0).sqrt()),
        }
    }

    /// Returns the tolerance of a part in half precision that `blocks` blocks computed: rounding errors add up like
    /// random numbers.
    pub fn half(mean: f64, blocks: usize) -> Tolerance {
        let deeper = (blocks as f64 / Tolerance::SMALL).max(1.0).sqrt();
        Tolerance::Half {
            mean: mean * deeper,
        }
    }

    /// Returns the limit of the mean over cases; `None` for a tolerance that has none.
    pub fn average(self) -> Option<f64> {
        match self {
            Tolerance::Half { mean } => Some(mean),
            Tolerance::Beside { theirs, .. } => Some(theirs),
            Tolerance::Equal | Tolerance::Close { .. } | Tolerance::Bytes { .. } => None,
        }
    }

    /// Returns the tolerance of the mean of `count` measured parts with `values` values in total, if each has a
    /// tolerance of this kind and `average` is the mean of their limits; `None` as for [`Tolerance::average`].
    pub fn of_mean(self, average: f64, count: usize, values: usize) -> Option<Tolerance> {
        match self {
            Tolerance::Half { .. } => {
                // The mean of a few cases varies more than that of many.
                let few = 1.0 + 0.3 / (count as f64).sqrt();
                Some(Tolerance::Close {
                    relative: average * few,
                    max: f64::INFINITY,
                })
            }
            Tolerance::Beside { .. } => Some(Tolerance::Beside {
                theirs: average,
                times: Tolerance::BESIDE_MEAN
                    + Tolerance::BESIDE_DEVIATIONS / (values.max(1) as f64).sqrt(),
            }),
            Tolerance::Equal | Tolerance::Close { .. } | Tolerance::Bytes { .. } => None,
        }
    }

    /// The same tolerance, `wider` times as large for kinds that limit a distance.
    #[must_use]
    pub fn times(self, wider: f64) -> Tolerance {
        match self {
            Tolerance::Close { relative, max } => Tolerance::Close {
                relative: relative * wider,
                max: max * wider,
            },
            Tolerance::Half { mean } => Tolerance::Half { mean: mean * wider },
            other => other,
        }
    }

    /// The same tolerance, with `bound` as the relative limit if that is larger.
    #[must_use]
    pub fn at_least(self, bound: f64) -> Tolerance {
        match self {
            Tolerance::Close { relative, max } => Tolerance::Close {
                relative: relative.max(bound),
                max,
            },
            other => other,
        }
    }

    /// Tells whether a distance is within this tolerance.
    pub fn holds(&self, distance: &ValueDistance) -> bool {
        match *self {
            Tolerance::Equal => distance.max == 0.0,
            Tolerance::Close { relative, max } => {
                distance.relative <= relative && distance.max <= max * distance.largest.max(1.0)
            }
            Tolerance::Beside { theirs, times } => distance.relative <= times * theirs,
            Tolerance::Half { mean } => distance.relative <= Tolerance::CHANCE * mean,
            Tolerance::Bytes { off } => {
                let few = Tolerance::FEW_BYTES / distance.count.max(1) as f64;
                distance.max <= 1.0 && distance.off <= off + few
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(ours: &[f64], reference: &[f64]) -> ValueDistance {
        ValueDistance::between(ours.iter().copied(), reference.iter().copied())
    }

    #[test]
    fn each_tolerance_can_be_exceeded() {
        let reference = [1.0, -4.0, 0.5];
        assert!(Tolerance::Equal.holds(&between(&reference, &reference)));
        assert!(!Tolerance::Equal.holds(&between(&[1.0, -4.0, 0.500001], &reference)));
        assert!(Tolerance::PART.holds(&between(&[1.000_01, -4.0, 0.5], &reference)));
        assert!(!Tolerance::PART.holds(&between(&[1.000_03, -4.0, 0.5], &reference)));
        assert!(Tolerance::FREE.holds(&between(&[1.000_03, -4.0, 0.5], &reference)));
        assert!(!Tolerance::BYTES.holds(&between(&[2.0, 6.0], &[2.0, 4.0])));
        let (dark, lit) = (vec![0.0; 9000], |count| {
            [vec![1.0; count], vec![0.0; 9000 - count]].concat()
        });
        assert!(Tolerance::BYTES.holds(&between(&lit(12), &dark)));
        assert!(!Tolerance::BYTES.holds(&between(&lit(13), &dark)));
    }

    #[test]
    fn the_tolerance_of_a_mean_is_smaller_than_that_of_a_case() {
        let one = Tolerance::half(Tolerance::HALF, 3);
        let mean = one
            .of_mean(Tolerance::HALF, 9, 18)
            .expect("halves have a mean");
        let off = between(&[1.015, -4.06], &[1.0, -4.0]);
        assert!(one.holds(&off) && !mean.holds(&off), "{off:?}");
        let deep = Tolerance::half(Tolerance::HALF, 57);
        let mean = deep.average().and_then(|mean| deep.of_mean(mean, 9, 18));
        assert!(mean.is_some_and(|bar| bar.holds(&off)));
        let beside = Tolerance::Beside {
            theirs: 0.01,
            times: Tolerance::BESIDE,
        };
        let mean = beside.of_mean(0.01, 9, 10_000).expect("a mean of theirs");
        assert!(beside.holds(&off) && !mean.holds(&off), "{off:?}");
        // Norms of a hundred random values differ by chance.
        let mean = beside.of_mean(0.0125, 5, 100).expect("a mean of theirs");
        assert!(mean.holds(&off), "{off:?}");
        assert_eq!(Tolerance::PART.of_mean(0.0, 9, 9), None);
    }

    #[test]
    fn only_pictures_decoded_at_once_have_a_tolerance_that_grows_with_their_size() {
        assert_eq!(Tolerance::decoded(1, 1 << 20), Tolerance::PART);
        assert_eq!(Tolerance::decoded(2, 96 * 64), Tolerance::PART);
        assert_eq!(Tolerance::decoded(2, 256 * 256), Tolerance::PART.times(2.0));
    }

    #[test]
    fn values_that_are_not_finite_and_missing_values_exceed_every_tolerance() {
        for ours in [vec![f64::NAN, 1.0], vec![1.0]] {
            let distance = between(&ours, &[0.0, 1.0]);
            let half = Tolerance::half(Tolerance::HALF, 3);
            for bar in [
                Tolerance::Equal,
                Tolerance::PART,
                Tolerance::FREE,
                Tolerance::BYTES,
                half,
            ] {
                assert!(!bar.holds(&distance), "{bar:?} {distance:?}");
            }
        }
    }
}
