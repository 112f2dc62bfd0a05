//! Norms of rows of values, with statistics in f64.

use crate::instruction_set::InstructionSet;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// A norm of each row: the result is rounded once.
#[derive(Debug, Clone, Copy)]
pub struct RowNorm {
    /// True if the mean is subtracted first.
    pub is_centred: bool,
    /// Added to the variance, or to the mean square.
    pub epsilon: f64,
}

impl RowNorm {
    /// Writes the norm of each row of `scale.len()` values, times `scale`, plus `shift`, to `to`.
    pub fn apply(
        self,
        from: &[f32],
        (scale, shift): (&[f32], &[f32]),
        to: &mut [f32],
        instructions: InstructionSet,
    ) {
        let width = scale.len().max(1);
        let rows = to.par_chunks_mut(width).zip(from.par_chunks(width));
        rows.for_each(|(to, from)| {
            instructions.run(NormaliseRow {
                norm: self,
                from,
                scale,
                shift,
                to,
            });
        });
    }
}

struct NormaliseRow<'a> {
    norm: RowNorm,
    from: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    to: &'a mut [f32],
}

impl WithSimd for NormaliseRow<'_> {
    type Output = ();

    /// The compiler finds the vectors here: additions of f64 in a fixed order are the same in each instruction set.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let count = self.from.len() as f64;
        let mean = match self.norm.is_centred {
            true => sum(self.from, |value| value) / count,
            false => 0.0,
        };
        let variance = sum(self.from, |value| (value - mean) * (value - mean)) / count;
        let inverse = (variance + self.norm.epsilon).sqrt().recip();
        let learned = self.scale.iter().zip(self.shift);
        for ((to, value), (scale, shift)) in self.to.iter_mut().zip(self.from).zip(learned) {
            let value = (f64::from(*value) - mean) * inverse;
            *to = (value * f64::from(*scale) + f64::from(*shift)) as f32;
        }
    }
}

/// Sums `of` over a row in f64, with a fixed number of accumulators.
#[inline(always)]
fn sum(row: &[f32], of: impl Fn(f64) -> f64) -> f64 {
    const ACCUMULATORS: usize = 8;
    let (whole, rest) = row.as_chunks::<ACCUMULATORS>();
    let mut sums = [0f64; ACCUMULATORS];
    for values in whole {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += of(f64::from(*value));
        }
    }
    let rest: f64 = rest.iter().map(|value| of(f64::from(*value))).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_the_same_bits_in_every_instruction_set() {
        for width in [1, 7, 128, 771] {
            let from: Vec<f32> = (0..3 * width)
                .map(|i| 100.0 + ((i * 7919) % 1009) as f32 / 1009.0)
                .collect();
            let learned = (&from[..width], &from[width..2 * width]);
            for is_centred in [false, true] {
                let norm = RowNorm {
                    is_centred,
                    epsilon: 1e-6,
                };
                let [ours, plain] = [InstructionSet::detect(), InstructionSet::Plain].map(|set| {
                    let mut to = vec![f32::NAN; from.len()];
                    norm.apply(&from, learned, &mut to, set);
                    to
                });
                assert!(ours.iter().all(|value| value.is_finite()), "{width}");
                assert_eq!(ours, plain, "{width}");
            }
        }
    }
}
