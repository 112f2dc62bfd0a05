//! How far two rows of values are apart, and how far they may be.

/// ValueDistance of ours from the reference's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValueDistance {
    /// Largest difference of one value.
    pub max: f64,
    /// Length of the difference over the length of the reference.
    pub relative: f64,
    /// Share of values that differ at all.
    pub off: f64,
    /// Values.
    pub count: usize,
    /// Largest value of the reference.
    pub largest: f64,
}

impl ValueDistance {
    /// Measures `ours` against `reference`; rows of different lengths are infinitely far apart.
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
    /// Every value equal.
    Equal,
    /// Relative distance at most `relative`, no value off by more than `max * max(1, largest)`.
    Close {
        /// Bound of [`ValueDistance::relative`].
        relative: f64,
        /// Bound of [`ValueDistance::max`], over the largest value if that is above 1.
        max: f64,
    },
    /// Relative distance at most `times` the reference's own in the same precision.
    Beside {
        /// The reference's own relative distance.
        theirs: f64,
        /// [`Tolerance::BESIDE`] for one case, [`Tolerance::BESIDE_MEAN`] for a mean over cases.
        times: f64,
    },
    /// A part in half precision: one case may be off by [`Tolerance::CHANCE`] times what the mean over cases may.
    Half {
        /// The largest mean over many cases.
        mean: f64,
    },
    /// Bytes at most 1 apart, on at most this share and a few more (`FEW_BYTES`).
    Bytes {
        /// Bound of [`ValueDistance::off`].
        off: f64,
    },
}

impl Tolerance {
    /// f32 parts that are fed the reference's own input.
    pub const PART: Tolerance = Tolerance::Close {
        relative: 5e-6,
        max: 1e-5,
    };
    /// f32 latents that run free from the first noise.
    pub const FREE: Tolerance = Tolerance::Close {
        relative: 1e-5,
        max: 2e-5,
    };
    /// Bytes of a picture.
    pub const BYTES: Tolerance = Tolerance::Bytes { off: 1e-3 };
    /// Bytes that may be off in any picture: a value that is half way between two is rounded by chance, and
    /// the share of one byte in a picture of 16 x 16 is .13 %.
    const FEW_BYTES: f64 = 3.0;
    /// Mean error in half precision of the states of small encoders, which was 4 to 8 thousandths on eight
    /// models with random weights.
    pub const HALF: f64 = 8.5e-3;
    /// As [`Tolerance::HALF`], of the velocities of small transformers: 6.3 to 7.5 thousandths.
    pub const HALF_VELOCITY: f64 = 7.8e-3;
    /// As [`Tolerance::HALF`], of one pooled state: few values, which come of one token.
    pub const HALF_POOLED: f64 = 1.3e-2;
    /// Blocks from which on the roundings of more of them are more than a small model's.
    const SMALL: f64 = 5.0;
    /// The largest ratio of one case's distance to the allowed mean.
    pub const CHANCE: f64 = 2.5;
    /// Our error over the reference's in one case: 1.7 was seen on four latents.
    pub const BESIDE: f64 = 2.5;
    /// Our error over the reference's, both as means over cases of many values: at most .96 was seen.
    pub const BESIDE_MEAN: f64 = 1.15;
    /// Standard deviations by which the ratio of two such means may be larger. The lengths of two random rows of
    /// n values have a ratio whose standard deviation is about 1 / sqrt(n).
    const BESIDE_DEVIATIONS: f64 = 2.5;
    /// Pixels of a picture above which the reference's own decoding of several at once is less exact than one of
    /// its parts may be: at 256 x 256 two at once were 5.2e-6 to 7.5e-6 from f64, one alone 0.9e-6 to 1.3e-6.
    const BATCH_PIXELS: f64 = 16384.0;
    /// Latents in half precision that run free.
    pub const HALF_FREE: Tolerance = Tolerance::Close {
        relative: 4e-2,
        max: f64::INFINITY,
    };
    /// Bytes made of such latents: some of them the decoder moves by 30 times as much, the reference's as well.
    pub const HALF_FREE_BYTES: Tolerance = Tolerance::Close {
        relative: 0.3,
        max: f64::INFINITY,
    };

    /// Returns the bar of a decoded picture, one of `images` latents that the reference decoded at once, in f32.
    pub fn decoded(images: usize, pixels: usize) -> Tolerance {
        match images {
            0 | 1 => Tolerance::PART,
            _ => Tolerance::PART.times((pixels as f64 / Tolerance::BATCH_PIXELS).max(1.0).sqrt()),
        }
    }

    /// Returns the bar of a part in half precision that `blocks` blocks computed: their roundings add up as chance
    /// does.
    pub fn half(mean: f64, blocks: usize) -> Tolerance {
        let deeper = (blocks as f64 / Tolerance::SMALL).max(1.0).sqrt();
        Tolerance::Half {
            mean: mean * deeper,
        }
    }

    /// Returns the allowed average over cases; `None` for a bar that does not concern chance.
    pub fn average(self) -> Option<f64> {
        match self {
            Tolerance::Half { mean } => Some(mean),
            Tolerance::Beside { theirs, .. } => Some(theirs),
            Tolerance::Equal | Tolerance::Close { .. } | Tolerance::Bytes { .. } => None,
        }
    }

    /// Returns the bar of the mean of `count` measured parts with `values` values together, if each has a bar of this
    /// kind and `average` is the mean of their averages; `None` as for [`Tolerance::average`].
    pub fn of_mean(self, average: f64, count: usize, values: usize) -> Option<Tolerance> {
        match self {
            Tolerance::Half { .. } => {
                // A few cases are further from the mean of many.
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

    /// The same bar, that many times as wide where it is about closeness.
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

    /// The same bar, whose relative bound is this one where that is wider.
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

    /// Whether a distance is within this bar.
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
    fn each_bar_can_be_broken() {
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
    fn a_mean_over_cases_is_held_closer_than_one_of_them() {
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
        // What two lengths of a hundred random values may be apart is chance.
        let mean = beside.of_mean(0.0125, 5, 100).expect("a mean of theirs");
        assert!(mean.holds(&off), "{off:?}");
        assert_eq!(Tolerance::PART.of_mean(0.0, 9, 9), None);
    }

    #[test]
    fn only_pictures_that_were_decoded_at_once_have_a_wider_bar_with_their_size() {
        assert_eq!(Tolerance::decoded(1, 1 << 20), Tolerance::PART);
        assert_eq!(Tolerance::decoded(2, 96 * 64), Tolerance::PART);
        assert_eq!(Tolerance::decoded(2, 256 * 256), Tolerance::PART.times(2.0));
    }

    #[test]
    fn values_that_are_not_finite_and_missing_values_break_every_bar() {
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
