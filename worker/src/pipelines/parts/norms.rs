//! Layer, root-mean-square and group norms. On the CPU, mean and variance are summed in f64.
//!
//! In f32, the error of a sum grows with the number of values and depends on the number of accumulators of the
//! instruction set. In f64, it is smaller than one rounding of the result. One thread sums each row in a fixed order,
//! so the result does not depend on the number of threads.

use crate::fault::WorkerFault;
use crate::pipelines::parts::layers::{filled, floats};
use crate::weights::Section;
use candle_core::{CpuStorage, CustomOp3, DType, Device, Layout, Shape, Tensor};
use candle_nn::ops;
use kernels::{InstructionSet, RowNorm};

/// A layer norm over the last axis, with scale and shift.
pub struct LayerNorm {
    scale: Tensor, // (width)
    shift: Tensor,
    epsilon: f32,
    /// True if nothing is learned: the scale is 1 and the shift is 0.
    is_plain: bool,
}

impl LayerNorm {
    /// Loads `weight` and `bias` of `width` values.
    ///
    /// # Errors
    /// As [`Section::tensor`].
    pub fn load(section: &Section, width: usize, epsilon: f32) -> Result<LayerNorm, WorkerFault> {
        let scale = section.tensor("weight", &[width])?;
        Ok(LayerNorm {
            scale,
            shift: section.tensor("bias", &[width])?,
            epsilon,
            is_plain: false,
        })
    }

    /// A norm without learned values, as in transformers with modulation.
    ///
    /// # Errors
    /// Faults of the device.
    pub fn plain(
        width: usize,
        epsilon: f32,
        dtype: DType,
        device: &Device,
    ) -> Result<Self, WorkerFault> {
        let scale = Tensor::ones(width, dtype, device)?;
        Ok(LayerNorm {
            shift: scale.zeros_like()?,
            scale,
            epsilon,
            is_plain: true,
        })
    }

    /// Normalises (…, width).
    ///
    /// # Errors
    /// Faults of the device.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, WorkerFault> {
        let x = x.contiguous()?;
        if !x.device().is_cpu() {
            let normed = ops::layer_norm(&x, &self.scale, &self.shift, self.epsilon);
            return Ok(normed?);
        }
        by_rows(self.of_rows(), &x, &self.scale, &self.shift)
    }

    /// Normalises (b, s, width), and computes `normed * (1 + scale) + shift` with a scale and a shift (b, 1, width) for
    /// each picture.
    ///
    /// # Errors
    /// Faults of the device.
    pub fn modulated(
        &self,
        x: &Tensor,
        shift: &Tensor,
        scale: &Tensor,
    ) -> Result<Tensor, WorkerFault> {
        let factor = (scale + 1.0)?;
        if !self.is_plain || !x.device().is_cpu() || x.dim(0)? != 1 {
            let normed = self.forward(x)?.broadcast_mul(&factor)?;
            return Ok(normed.broadcast_add(shift)?);
        }
        let [factor, shift] = [&factor, shift].map(|row| row.flatten_all()?.contiguous());
        by_rows(self.of_rows(), &x.contiguous()?, &factor?, &shift?)
    }

    fn of_rows(&self) -> RowNorm {
        RowNorm {
            is_centred: true,
            epsilon: f64::from(self.epsilon),
        }
    }
}

/// A root-mean-square norm over the last axis, with a scale.
pub struct RmsNorm {
    scale: Tensor, // (width)
    epsilon: f32,
}

impl RmsNorm {
    /// A norm without effect, for a test that leaves a norm out: `x * s / sqrt(mean + s^2)` is `x` in f32.
    #[cfg(test)]
    pub(crate) fn nothing(like: &RmsNorm) -> Result<RmsNorm, WorkerFault> {
        const SCALE: f64 = 1e6;
        Ok(RmsNorm {
            scale: (like.scale.ones_like()? * SCALE)?,
            epsilon: (SCALE * SCALE) as f32,
        })
    }

    /// Loads the scale called `name` (`scale` or `weight`).
    ///
    /// # Errors
    /// As [`Section::tensor`].
    pub fn load(section: &Section, name: &str, width: usize) -> Result<RmsNorm, WorkerFault> {
        Ok(RmsNorm {
            scale: section.tensor(name, &[width])?,
            epsilon: 1e-6,
        })
    }

    /// Normalises (…, width).
    ///
    /// # Errors
    /// Faults of the device.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, WorkerFault> {
        let x = x.contiguous()?;
        if !x.device().is_cpu() {
            return Ok(ops::rms_norm(&x, &self.scale, self.epsilon)?);
        }
        let norm = RowNorm {
            is_centred: false,
            epsilon: f64::from(self.epsilon),
        };
        by_rows(norm, &x, &self.scale, &self.scale.zeros_like()?)
    }
}

/// A group norm of pictures as tensors, with a scale and a shift for each channel.
pub struct GroupNorm {
    scale: Tensor, // (channels)
    shift: Tensor,
    groups: usize,
}

impl GroupNorm {
    /// The value of the published autoencoders.
    pub const EPSILON: f64 = 1e-6;

    /// Bytes of a picture that a GPU normalises at a time.
    pub const PIECE_BYTES: usize = 64 << 20;

    /// Loads `weight` and `bias` of `channels` values.
    ///
    /// # Errors
    /// As [`Section::tensor`].
    pub fn load(
        section: &Section,
        channels: usize,
        groups: usize,
    ) -> Result<GroupNorm, WorkerFault> {
        Ok(GroupNorm {
            scale: section.tensor("weight", &[channels])?,
            shift: section.tensor("bias", &[channels])?,
            groups,
        })
    }

    /// Normalises (b, channels, h, w), each group of channels with its own mean and variance.
    ///
    /// # Errors
    /// Faults of the device.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, WorkerFault> {
        let (batch, channels, height, width) = x.dims4()?;
        let row = channels / self.groups * height * width;
        let grouped = x.contiguous()?.reshape((batch, self.groups, row))?;
        let group_bytes = batch * row * x.dtype().size_in_bytes();
        let groups = (GroupNorm::PIECE_BYTES / group_bytes).clamp(1, self.groups);
        self.by_tensors(&grouped, x.dims(), groups)
    }

    /// Like [`GroupNorm::forward`], with candle's tensor operations, which keep several tensors of the size of their
    /// input: `groups` groups are computed at a time. A GPU sums in a tree.
    fn by_tensors(
        &self,
        grouped: &Tensor,
        shape: &[usize],
        groups: usize,
    ) -> Result<Tensor, WorkerFault> {
        if groups >= self.groups {
            return Ok(self.some_by_tensors(grouped, shape, 0)?.reshape(shape)?);
        }
        let normed = filled(grouped.zeros_like()?, 1, groups, |first, count| {
            let part = grouped.narrow(1, first, count)?.contiguous()?;
            self.some_by_tensors(&part, shape, first)
        })?;
        Ok(normed.reshape(shape)?)
    }

    /// Normalises the groups (b, n, row) from the group `first` on, of a picture of this shape.
    fn some_by_tensors(
        &self,
        grouped: &Tensor,
        shape: &[usize],
        first: usize,
    ) -> Result<Tensor, WorkerFault> {
        let (batch, count, row) = grouped.dims3()?;
        let channels = shape[1] / self.groups; // of a group
        let of_channel = |values: &Tensor| {
            let values = values.narrow(0, first * channels, count * channels)?;
            values.reshape((1, count * channels, 1))
        };
        let centred = grouped.broadcast_sub(&grouped.mean_keepdim(2)?)?;
        let variance = centred.sqr()?.mean_keepdim(2)?; // (b, n, 1)
        let normed = centred.broadcast_div(&(variance + GroupNorm::EPSILON)?.sqrt()?)?;
        drop(centred);
        Ok(normed
            .reshape((batch, count * channels, row / channels))?
            .broadcast_mul(&of_channel(&self.scale)?)?
            .broadcast_add(&of_channel(&self.shift)?)?
            .reshape((batch, count, row))?)
    }
}

/// Normalises the last axis of `x` (…, n) on the CPU, with n scales and shifts; the result is rounded once.
fn by_rows(
    norm: RowNorm,
    x: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
) -> Result<Tensor, WorkerFault> {
    let [wide, scale, shift] = [x, scale, shift].map(|t| t.to_dtype(DType::F32));
    let normed = wide?.apply_op3_no_bwd(&scale?, &shift?, &HostRowNorm(norm))?;
    Ok(normed.to_dtype(x.dtype())?)
}

/// A norm of rows on the CPU.
struct HostRowNorm(RowNorm);

impl CustomOp3 for HostRowNorm {
    fn name(&self) -> &'static str {
        "row-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        of_x: &Layout,
        scale: &CpuStorage,
        of_scale: &Layout,
        shift: &CpuStorage,
        of_shift: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let values = floats(x, of_x)?;
        let learned = (floats(scale, of_scale)?, floats(shift, of_shift)?);
        if of_x.dims().last() != Some(&learned.0.len()) || learned.0.len() != learned.1.len() {
            candle_core::bail!("a norm needs a scale and a shift for each value of a row");
        }
        let mut normed = vec![0f32; values.len()];
        let instructions = InstructionSet::detect();
        self.0.apply(values, learned, &mut normed, instructions);
        Ok((CpuStorage::F32(normed), of_x.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values whose mean is large compared with their differences.
    fn values(count: usize) -> Vec<f32> {
        let value = |i: usize| 100.0 + ((i * 7919) % 1009) as f32 / 1009.0;
        (0..count).map(value).collect()
    }

    fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
        Tensor::from_slice(values, shape, &Device::Cpu).expect("values of this shape")
    }

    fn flat(x: &Tensor) -> Vec<f32> {
        let flat = x.flatten_all().and_then(|x| x.to_vec1());
        flat.expect("f32 values")
    }

    /// (x - mean) / sqrt(variance + epsilon) * scale + shift, all in f64.
    fn truth(row: &[f32], epsilon: f64, learned: impl Fn(usize) -> (f64, f64)) -> Vec<f64> {
        let count = row.len() as f64;
        let mean = row.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
        let apart = row.iter().map(|v| (f64::from(*v) - mean).powi(2));
        let deviation = (apart.sum::<f64>() / count + epsilon).sqrt();
        let normed = row.iter().enumerate().map(|(i, value)| {
            let (scale, shift) = learned(i);
            (f64::from(*value) - mean) / deviation * scale + shift
        });
        normed.collect()
    }

    #[track_caller]
    fn assert_rounded_once(ours: &[f32], truth: &[f64]) {
        assert_eq!(ours.len(), truth.len());
        for (our, exact) in ours.iter().zip(truth) {
            let apart = (f64::from(*our) - exact).abs();
            assert!(apart <= exact.abs() * 6e-8 + 1e-12, "{our} for {exact}");
        }
    }

    #[test]
    fn groups_that_are_normalised_some_at_a_time_equal_all_at_once() {
        let (groups, of_group, plane) = (6, 2, 5 * 7);
        let x = tensor(
            &values(2 * groups * of_group * plane),
            &[2, groups, of_group * plane],
        );
        let norm = GroupNorm {
            scale: tensor(&values(groups * of_group), &[groups * of_group]),
            shift: tensor(&values(groups * of_group), &[groups * of_group]),
            groups,
        };
        let shape = [2, groups * of_group, 5, 7];
        let row = of_group * plane;
        let values = flat(&x);
        let exact = values.chunks(row).enumerate().flat_map(|(i, values)| {
            let channel = |at: usize| i % groups * of_group + at / plane;
            let learned = flat(&norm.scale);
            truth(values, GroupNorm::EPSILON, |at| {
                (
                    f64::from(learned[channel(at)]),
                    f64::from(learned[channel(at)]),
                )
            })
        });
        let all = norm.by_tensors(&x, &shape, groups).expect("a norm");
        assert_eq!(all.dims(), shape);
        for (ours, exact) in flat(&all).iter().zip(exact) {
            let apart = (f64::from(*ours) - exact).abs();
            assert!(apart <= 1e-2, "{ours} for {exact}"); // f32 sums of values near 100
        }
        for some in [1, 4, 5] {
            let ours = norm.by_tensors(&x, &shape, some).expect("a norm");
            assert_eq!(flat(&ours), flat(&all), "{some} groups at a time");
        }
    }

    #[test]
    fn a_layer_with_a_large_mean_is_normalised_like_in_f64() {
        let (width, x) = (3072, values(2 * 3072));
        let (scale, shift) = (values(width), vec![-1.0; width]);
        let norm = LayerNorm {
            scale: tensor(&scale, &[width]),
            shift: tensor(&shift, &[width]),
            epsilon: 1e-6,
            is_plain: false,
        };
        let ours = norm.forward(&tensor(&x, &[2, width])).expect("a norm");
        let learned = |i: usize| (f64::from(scale[i]), -1.0);
        let epsilon = f64::from(1e-6f32);
        let truths = x.chunks(width).flat_map(|row| truth(row, epsilon, learned));
        assert_rounded_once(&flat(&ours), &truths.collect::<Vec<_>>());
    }

    #[test]
    fn a_modulated_norm_equals_its_steps_for_one_and_for_several_pictures() {
        let (width, tokens) = (96, 5);
        let norm = LayerNorm::plain(width, 1e-6, DType::F32, &Device::Cpu).expect("a norm");
        for batch in [1, 2] {
            let x = tensor(&values(batch * tokens * width), &[batch, tokens, width]);
            let rows = tensor(&values(2 * batch * width), &[2 * batch, 1, width]);
            let [shift, scale] = [0, batch].map(|first| rows.narrow(0, first, batch));
            let (shift, scale) = (shift.expect("half"), scale.expect("the other half"));
            let ours = norm.modulated(&x, &shift, &scale).expect("a norm");
            assert_eq!(ours.dims(), x.dims());
            let factor = (scale + 1.0).expect("one more");
            let steps = norm.forward(&x).expect("a norm").broadcast_mul(&factor);
            let steps = steps.and_then(|normed| normed.broadcast_add(&shift));
            let steps = flat(&steps.expect("rows for each picture"));
            for (ours, steps) in flat(&ours).iter().zip(steps) {
                assert!(
                    (ours - steps).abs() <= 5e-7 * steps.abs().max(100.0),
                    "{ours} for {steps}"
                );
            }
        }
    }

    #[test]
    fn a_root_mean_square_norm_rounds_bf16_once() {
        let width = 4096;
        let norm = RmsNorm {
            scale: tensor(&values(width), &[width]),
            epsilon: 1e-6,
        };
        let half = |x: &Tensor| x.to_dtype(DType::BF16).expect("a cast");
        let x = half(&tensor(&values(width), &[1, width]));
        let wide = x.to_dtype(DType::F32).expect("a cast");
        let exact = half(&norm.forward(&wide).expect("a norm"));
        let ours = norm.forward(&x).expect("a norm");
        let [exact, ours] = [exact, ours].map(|t| flat(&t.to_dtype(DType::F32).expect("a cast")));
        assert_eq!(exact, ours);
    }

    #[test]
    fn a_value_that_is_not_finite_gives_results_that_are_not_finite() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut x = values(64);
            x[17] = bad;
            let norm = LayerNorm::plain(64, 1e-6, DType::F32, &Device::Cpu).expect("a norm");
            let ours = flat(&norm.forward(&tensor(&x, &[1, 64])).expect("a norm"));
            assert!(ours.iter().any(|value| !value.is_finite()));
        }
    }
}
