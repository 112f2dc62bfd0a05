//! A group norm of a picture, with the activation after it.

use crate::elementary::{multiply_add, silu};
use crate::frame::Frame;
use crate::workspace::Workspace;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// Pixels that are summed at a time.
const PIXELS: usize = 1024;

/// A group norm with a scale and a shift for each channel.
#[derive(Debug, Clone)]
pub struct PictureNorm {
    /// For each channel.
    pub scale: Vec<f32>,
    /// For each channel.
    pub shift: Vec<f32>,
    /// Number of groups.
    pub groups: usize,
    /// Added to the variance.
    pub epsilon: f64,
}

/// A channel's norm: `(value - mean - rest) * scale + shift`, where `mean + rest` is the mean in about f64.
#[derive(Debug, Clone, Default)]
struct Affine {
    mean: Vec<f32>,
    rest: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl PictureNorm {
    /// Normalises a picture; with `is_activated`, each value becomes `value * sigmoid(value)` afterwards.
    pub fn forward(&self, frame: &Frame, is_activated: bool, workspace: &Workspace) -> Frame {
        let stride = Frame::stride(frame.channels);
        let affine = self.affine(frame, workspace);
        let mut values = workspace.buffer(frame.values.len());
        let tasks = values.par_chunks_mut(PIXELS * stride);
        let tasks = tasks.zip(frame.values.par_chunks(PIXELS * stride));
        tasks.for_each(|(to, from)| {
            workspace.instructions.run(Normalise {
                affine: &affine,
                is_activated,
                from,
                to,
            });
        });
        Frame { values, ..*frame }
    }

    /// The norm of each channel. Sums are f64, in a fixed order.
    fn affine(&self, frame: &Frame, workspace: &Workspace) -> Affine {
        let stride = Frame::stride(frame.channels);
        let parts = frame.values.par_chunks(PIXELS * stride);
        let sum = |values| workspace.instructions.run(Sum { values, stride });
        let parts: Vec<_> = parts.map(sum).collect();
        let mut all = vec![[0f64; 2]; stride];
        for part in parts {
            for (all, part) in all.iter_mut().zip(part) {
                all[0] += part[0];
                all[1] += part[1];
            }
        }
        let of_group = (frame.channels / self.groups.max(1)).max(1);
        let count = (frame.height * frame.width * of_group) as f64;
        let mut affine = Affine::default();
        for (channels, first) in all[..frame.channels]
            .chunks(of_group)
            .zip((0..).step_by(of_group))
        {
            let [sum, squares] = [0, 1].map(|i| channels.iter().map(|sums| sums[i]).sum::<f64>());
            let mean = sum / count;
            let variance = (squares / count - mean * mean).max(0.0);
            let inverse = (variance + self.epsilon).sqrt().recip();
            for channel in first..first + channels.len() {
                affine.mean.push(mean as f32);
                affine.rest.push((mean - f64::from(mean as f32)) as f32);
                affine
                    .scale
                    .push((inverse * f64::from(self.scale[channel])) as f32);
                affine.shift.push(self.shift[channel]);
            }
        }
        for values in [
            &mut affine.mean,
            &mut affine.rest,
            &mut affine.scale,
            &mut affine.shift,
        ] {
            values.resize(stride, 0.0);
        }
        affine
    }
}

/// Sums the values and the squares of each channel.
struct Sum<'a> {
    values: &'a [f32],
    stride: usize,
}

impl WithSimd for Sum<'_> {
    type Output = Vec<[f64; 2]>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<[f64; 2]> {
        let mut sums = vec![0f64; self.stride];
        let mut squares = vec![0f64; self.stride];
        for pixel in self.values.chunks_exact(self.stride) {
            for ((sum, square), value) in sums.iter_mut().zip(&mut squares).zip(pixel) {
                let value = f64::from(*value);
                *sum += value;
                *square += value * value;
            }
        }
        sums.into_iter()
            .zip(squares)
            .map(<[f64; 2]>::from)
            .collect()
    }
}

/// Normalises pixels.
struct Normalise<'a> {
    affine: &'a Affine,
    is_activated: bool,
    from: &'a [f32],
    to: &'a mut [f32],
}

impl WithSimd for Normalise<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Affine {
            mean,
            rest,
            scale,
            shift,
        } = self.affine;
        let [mean, rest, scale, shift] = [mean, rest, scale, shift].map(|v| S::as_simd_f32s(v).0);
        let (from, to) = (S::as_simd_f32s(self.from).0, S::as_mut_simd_f32s(self.to).0);
        let learned = mean.iter().zip(rest).zip(scale.iter().zip(shift));
        let normed = |value: S::f32s, mean, rest, scale, shift| {
            let centred = simd.sub_f32s(simd.sub_f32s(value, mean), rest);
            multiply_add(simd, centred, scale, shift)
        };
        let pixels = to.chunks_exact_mut(mean.len());
        for (to, from) in pixels.zip(from.chunks_exact(mean.len())) {
            let values = to.iter_mut().zip(from).zip(learned.clone());
            for ((to, from), ((mean, rest), (scale, shift))) in values {
                let value = normed(*from, *mean, *rest, *scale, *shift);
                *to = match self.is_activated {
                    true => silu(simd, value),
                    false => value,
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InstructionSet;

    /// Values whose mean is large compared with their differences.
    fn values(count: usize) -> Vec<f32> {
        let value = |i: usize| 100.0 + ((i * 7919) % 1009) as f32 / 1009.0;
        (0..count).map(value).collect()
    }

    fn norm() -> PictureNorm {
        PictureNorm {
            scale: vec![1.5, 0.5, -2.0, 1.0, 3.0, 1.0],
            shift: vec![0.25, -1.0, 0.0, 3.0, -2.0, 40.0],
            groups: 3,
            epsilon: 1e-6,
        }
    }

    const SIZE: (usize, usize) = (41, 67);

    fn ours(instructions: InstructionSet, is_activated: bool) -> Vec<f32> {
        let workspace = Workspace::new(instructions);
        let frame = Frame::from_planes(&values(6 * SIZE.0 * SIZE.1), SIZE, &workspace);
        norm().forward(&frame, is_activated, &workspace).to_planes()
    }

    /// The norm in f64.
    fn truth() -> Vec<f64> {
        let (norm, plane) = (norm(), SIZE.0 * SIZE.1);
        let values: Vec<f64> = values(6 * plane).into_iter().map(f64::from).collect();
        let mut normed = Vec::new();
        for (group, values) in values.chunks(2 * plane).enumerate() {
            let count = values.len() as f64;
            let mean = values.iter().sum::<f64>() / count;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
            for (i, value) in values.iter().enumerate() {
                let channel = 2 * group + i / plane;
                let value = (value - mean) / (variance + norm.epsilon).sqrt();
                normed
                    .push(value * f64::from(norm.scale[channel]) + f64::from(norm.shift[channel]));
            }
        }
        normed
    }

    #[test]
    fn a_picture_with_a_large_mean_is_normalised_like_in_f64() {
        for (ours, exact) in ours(InstructionSet::detect(), false).iter().zip(truth()) {
            let apart = (f64::from(*ours) - exact).abs();
            assert!(apart <= 4e-7 * exact.abs().max(1.0), "{ours} for {exact}");
        }
    }

    #[test]
    fn activated_values_are_those_of_f64() {
        for (ours, normed) in ours(InstructionSet::detect(), true).iter().zip(truth()) {
            let exact = normed / (1.0 + (-normed).exp());
            let apart = (f64::from(*ours) - exact).abs();
            assert!(apart <= 5e-7 * exact.abs().max(1.0), "{ours} for {exact}");
        }
    }

    #[test]
    fn vectors_of_the_processor_normalise_like_arrays() {
        for is_activated in [false, true] {
            let detected = ours(InstructionSet::detect(), is_activated);
            let plain = ours(InstructionSet::Plain, is_activated);
            for (ours, plain) in detected.iter().zip(plain) {
                assert!(
                    (ours - plain).abs() <= 1e-6 * plain.abs().max(1.0),
                    "{ours} for {plain}"
                );
            }
        }
    }
}
