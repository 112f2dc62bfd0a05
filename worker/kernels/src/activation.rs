//! Activations, value by value, and the softmax of rows.

use crate::elementary::{exp, multiply_add, sigmoid, silu};
use crate::instruction_set::InstructionSet;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// Values of a task of a thread.
const TASK: usize = 1 << 14;

/// A function of single values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nonlinearity {
    /// `x * sigmoid(x)`.
    Silu,
    /// GELU, approximated with a hyperbolic tangent: `x * sigmoid(2 u)` with `u = sqrt(2 / pi) (x + 0.044715 x^3)`.
    GeluTanh,
    /// `x * sigmoid(1.702 x)`.
    QuickGelu,
}

impl Nonlinearity {
    /// Writes the function of each value to `to`.
    pub fn apply(self, from: &[f32], to: &mut [f32], instructions: InstructionSet) {
        let tasks = to.par_chunks_mut(TASK).zip(from.par_chunks(TASK));
        tasks.for_each(|(to, from)| {
            let activation = self;
            instructions.run(Activate {
                activation,
                from,
                to,
            });
        });
    }

    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        match self {
            Nonlinearity::Silu => silu(simd, x),
            Nonlinearity::QuickGelu => {
                simd.mul_f32s(x, sigmoid(simd, simd.mul_f32s(simd.splat_f32s(1.702), x)))
            }
            Nonlinearity::GeluTanh => {
                const TWICE_ROOT: f32 = 1.595_769; // 2 sqrt(2 / pi)
                let square = simd.mul_f32s(x, x);
                let inner = multiply_add(
                    simd,
                    square,
                    simd.splat_f32s(0.044_715 * TWICE_ROOT),
                    simd.splat_f32s(TWICE_ROOT),
                );
                simd.mul_f32s(x, sigmoid(simd, simd.mul_f32s(x, inner)))
            }
        }
    }
}

struct Activate<'a> {
    activation: Nonlinearity,
    from: &'a [f32],
    to: &'a mut [f32],
}

impl WithSimd for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let activation = self.activation;
        let (from, last) = S::as_simd_f32s(self.from);
        let (to, last_to) = S::as_mut_simd_f32s(self.to);
        for (to, from) in to.iter_mut().zip(from) {
            *to = activation.of(simd, *from);
        }
        let value = activation.of(simd, simd.partial_load_f32s(last));
        simd.partial_store_f32s(last_to, value);
    }
}

/// Writes the softmax of each row of `width` values, multiplied by a positive `scale`, to `to`.
pub fn softmax(
    from: &[f32],
    width: usize,
    scale: f32,
    to: &mut [f32],
    instructions: InstructionSet,
) {
    let rows = (TASK / width.max(1)).max(1) * width.max(1);
    let tasks = to.par_chunks_mut(rows).zip(from.par_chunks(rows));
    tasks.for_each(|(to, from)| {
        for (to, from) in to.chunks_mut(width).zip(from.chunks(width)) {
            instructions.run(SoftmaxRow { from, scale, to });
        }
    });
}

struct SoftmaxRow<'a> {
    from: &'a [f32],
    scale: f32,
    to: &'a mut [f32],
}

impl WithSimd for SoftmaxRow<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (from, last) = S::as_simd_f32s(self.from);
        let largest = from
            .iter()
            .fold(simd.splat_f32s(f32::NEG_INFINITY), |largest, value| {
                simd.max_f32s(largest, *value)
            });
        let largest = simd.reduce_max_f32s(largest);
        let largest = last.iter().copied().fold(largest, f32::max);
        let below = simd.splat_f32s(largest);
        let scale = simd.splat_f32s(self.scale);
        let (to, last_to) = S::as_mut_simd_f32s(self.to);
        let mut sum = simd.splat_f32s(0.0);
        for (to, from) in to.iter_mut().zip(from) {
            *to = share(simd, *from, below, scale);
            sum = simd.add_f32s(sum, *to);
        }
        let value = share(simd, simd.partial_load_f32s(last), below, scale);
        simd.partial_store_f32s(last_to, value);
        let sum = simd.reduce_sum_f32s(sum) + last_to.iter().sum::<f32>();
        let inverse = simd.splat_f32s(sum.recip());
        for to in to.iter_mut() {
            *to = simd.mul_f32s(*to, inverse);
        }
        for to in last_to {
            *to *= sum.recip();
        }
    }
}

/// The exponential of what a value is above the largest one. No closure: it would not be inlined if it is called twice, and
/// each of its operations would become a call.
#[inline(always)]
fn share<S: Simd>(simd: S, value: S::f32s, largest: S::f32s, scale: S::f32s) -> S::f32s {
    exp(simd, simd.mul_f32s(simd.sub_f32s(value, largest), scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Nonlinearity; 3] = [
        Nonlinearity::Silu,
        Nonlinearity::GeluTanh,
        Nonlinearity::QuickGelu,
    ];

    fn sets() -> [InstructionSet; 2] {
        [InstructionSet::detect(), InstructionSet::Plain]
    }

    /// From -20 to 20, an odd number of values.
    fn values() -> Vec<f32> {
        (0..40_001).map(|i| (i - 20_000) as f32 * 1e-3).collect()
    }

    fn activated(activation: Nonlinearity, values: &[f32], set: InstructionSet) -> Vec<f32> {
        let mut to = vec![f32::NAN; values.len()];
        activation.apply(values, &mut to, set);
        to
    }

    fn exact(activation: Nonlinearity, x: f64) -> f64 {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        match activation {
            Nonlinearity::Silu => x * sigmoid(x),
            Nonlinearity::QuickGelu => x * sigmoid(1.702 * x),
            Nonlinearity::GeluTanh => {
                let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                x * sigmoid(2.0 * u) // as x / 2 * (1 + tanh(u)), without its cancellation
            }
        }
    }

    #[test]
    fn activations_are_those_of_f64() {
        for (activation, set) in ALL.into_iter().flat_map(|one| sets().map(|set| (one, set))) {
            for (x, ours) in values().iter().zip(activated(activation, &values(), set)) {
                let exact = exact(activation, f64::from(*x));
                let apart = (f64::from(ours) - exact).abs();
                // The exponent is rounded up to four times by half a unit, and its error is one of the result relative
                // to 1.
                let exponent = if *x == 0.0 {
                    0.0
                } else {
                    (f64::from(*x) / exact).ln().abs()
                };
                let limit = f64::from(f32::EPSILON) * (3.0 + 2.0 * exponent) * exact.abs() + 1e-35;
                assert!(apart <= limit, "{activation:?} {x}: {ours} for {exact}");
            }
        }
    }

    #[test]
    fn the_ends_of_activations_and_values_that_are_not_finite_are_kept() {
        let values = [-1e30, -100.0, 0.0, 87.5, 100.0, f32::NAN, f32::INFINITY];
        for (activation, set) in ALL.into_iter().flat_map(|one| sets().map(|set| (one, set))) {
            let ours = activated(activation, &values, set);
            assert!(
                ours[1].abs() < 1e-30 && ours[2] == 0.0,
                "{activation:?}: {ours:?}"
            );
            assert_eq!((ours[3], ours[4]), (87.5, 100.0), "{activation:?}");
            assert!(
                ours[5].is_nan() && !ours[6].is_finite(),
                "{activation:?}: {ours:?}"
            );
        }
    }

    #[test]
    fn the_softmax_is_that_of_f64_for_every_width() {
        for (width, set) in [1, 7, 8, 9, 333, 512]
            .into_iter()
            .flat_map(|n| sets().map(|set| (n, set)))
        {
            let from: Vec<f32> = (0..5 * width)
                .map(|i| ((i * 7919) % 1009) as f32 / 50.0)
                .collect();
            let mut ours = vec![f32::NAN; from.len()];
            softmax(&from, width, 0.75, &mut ours, set);
            for (from, ours) in from.chunks(width).zip(ours.chunks(width)) {
                let from: Vec<f64> = from.iter().map(|v| 0.75 * f64::from(*v)).collect();
                let largest = from.iter().copied().fold(f64::MIN, f64::max);
                let sum: f64 = from.iter().map(|v| (v - largest).exp()).sum();
                for (from, ours) in from.iter().zip(ours) {
                    let exact = (from - largest).exp() / sum;
                    let apart = (f64::from(*ours) - exact).abs();
                    let limit = f64::from(f32::EPSILON) * (3.0 + largest - from) * exact;
                    assert!(apart <= limit, "{width}: {ours} for {exact}");
                }
            }
        }
    }

    #[test]
    fn a_row_with_a_value_that_is_not_a_number_has_none_that_are() {
        for set in sets() {
            for at in [0, 8, 10] {
                let mut from = [1.0; 11];
                from[at] = f32::NAN;
                let mut ours = [0.0; 11];
                softmax(&from, 11, 1.0, &mut ours, set);
                assert!(ours.iter().any(|value| value.is_nan()), "{at}: {ours:?}");
            }
        }
    }
}
