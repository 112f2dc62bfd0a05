//! The layers that all parts use. Shapes are checked when they are loaded.
//!
//! The left operand of every product is contiguous and has no broadcast batch: candle 0.11.1's product on
//! the CPU is silently wrong for a transposed left operand with a broadcast right operand.

use crate::fault::WorkerFault;
use crate::weights::{Matrix, Section};
use crate::work;
use candle_core::{CpuStorage, D, DType, Device, Layout, Tensor};

/// A linear layer over the last axis: `x W^T + b`.
pub struct Linear {
    weight: Matrix, // (out, in)
    bias: Option<Tensor>,
}

impl Linear {
    /// Loads `weight` (outputs, inputs) and `bias` (outputs).
    ///
    /// # Errors
    /// As [`Section::tensor`].
    pub fn load(section: &Section, inputs: usize, outputs: usize) -> Result<Linear, WorkerFault> {
        let weight = Linear::without_bias(section, inputs, outputs)?.weight;
        Ok(Linear {
            weight,
            bias: Some(section.tensor("bias", &[outputs])?),
        })
    }

    /// Loads only `weight`.
    ///
    /// # Errors
    /// As [`Section::tensor`].
    pub fn without_bias(
        section: &Section,
        inputs: usize,
        outputs: usize,
    ) -> Result<Linear, WorkerFault> {
        let weight = section.matrix("weight", (outputs, inputs))?;
        Ok(Linear { weight, bias: None })
    }

    /// Loads a convolution (outputs, channels, side, side) with stride `side` and its bias, as a product with
    /// patches whose values are in the order channel, row, column.
    ///
    /// # Errors
    /// As [`Section::tensor`].
    pub fn of_patches(
        section: &Section,
        (channels, side): (usize, usize),
        outputs: usize,
    ) -> Result<Linear, WorkerFault> {
        let kernel = section.tensor("weight", &[outputs, channels, side, side])?;
        Ok(Linear {
            weight: Matrix::Dense(kernel.reshape((outputs, channels * side * side))?),
            bias: Some(section.tensor("bias", &[outputs])?),
        })
    }

    /// Computes (…, out) from (…, in).
    ///
    /// # Errors
    /// Faults of the device.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, WorkerFault> {
        self.forward_as(x, x.dtype())
    }

    /// Like [`Linear::forward`], with the result in `dtype` instead of the dtype of `x`.
    ///
    /// # Errors
    /// Faults of the device.
    pub fn forward_as(&self, x: &Tensor, dtype: DType) -> Result<Tensor, WorkerFault> {
        let (outputs, inputs) = self.weight.dims()?;
        let mut shape = x.dims().to_vec();
        let rows = x.elem_count() / inputs;
        if let Some(last) = shape.last_mut() {
            *last = outputs;
        }
        let flat = computed(&x.contiguous()?.reshape((rows, inputs))?)?;
        let product = self.weight.product(&flat)?; // (rows, out)
        let sum = match &self.bias {
            Some(bias) => product.broadcast_add(&computed(bias)?)?,
            None => product,
        };
        work::finished_one();
        Ok(sum.to_dtype(dtype)?.reshape(shape)?)
    }
}

/// Converts an input of a product to the dtype that it is computed in: f32 on the CPU, the stored dtype
/// elsewhere; f64 stays f64.
///
/// candle's product on the CPU converts both sides from half precision anyway. If it is done here, the
/// operation after the product (a bias, a softmax) gets unrounded values, as in the references' fused kernels.
pub(super) fn computed(x: &Tensor) -> Result<Tensor, WorkerFault> {
    match x.device() {
        Device::Cpu if x.dtype() != DType::F64 => Ok(x.to_dtype(DType::F32)?),
        _ => Ok(x.clone()),
    }
}

/// Returns the values of a contiguous f32 tensor on the CPU.
pub(super) fn floats<'a>(
    storage: &'a CpuStorage,
    layout: &Layout,
) -> candle_core::Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => candle_core::bail!("a kernel needs contiguous f32 values"),
    }
}

/// Fills `whole` along `axis`, at most `most` places at a time: `part` computes those from a first one on.
///
/// # Errors
/// Faults of `part` and of the device.
pub(super) fn filled(
    whole: Tensor,
    axis: usize,
    most: usize,
    part: impl Fn(usize, usize) -> Result<Tensor, WorkerFault>,
) -> Result<Tensor, WorkerFault> {
    let length = whole.dim(axis)?;
    for first in (0..length).step_by(most) {
        let count = most.min(length - first);
        whole.slice_set(&part(first, count)?, axis, first)?;
    }
    Ok(whole)
}

/// Splits (b, s, heads * d) into (b, heads, s, d).
///
/// # Errors
/// Faults of the device.
pub fn split_heads(x: &Tensor, heads: usize) -> Result<Tensor, WorkerFault> {
    let (batch, length, width) = x.dims3()?;
    Ok(x.reshape((batch, length, heads, width / heads))?
        .transpose(1, 2)?
        .contiguous()?)
}

/// Joins (b, heads, s, d) to (b, s, heads * d).
///
/// # Errors
/// Faults of the device.
pub fn join_heads(x: &Tensor) -> Result<Tensor, WorkerFault> {
    Ok(x.transpose(1, 2)?.flatten_from(D::Minus2)?) // (b, s, heads, d) flattened
}

/// Clamps f16 values to the finite range, as the references do after each block. Other dtypes are unchanged.
///
/// # Errors
/// Faults of the device.
pub fn within_half(x: Tensor) -> Result<Tensor, WorkerFault> {
    if x.dtype() != DType::F16 {
        return Ok(x);
    }
    const LARGEST: f64 = 65504.0;
    Ok(x.clamp(-LARGEST, LARGEST)?)
}

/// Checks that all values are finite.
///
/// # Errors
/// [`WorkerFault::NotFinite`] with the stage; faults of the device.
pub fn finite(x: &Tensor, stage: impl FnOnce() -> String) -> Result<(), WorkerFault> {
    // Zero times a finite value is zero. Zero times NaN or infinity is NaN, and so is a sum with it.
    let zeros = (x * 0.0)?.to_dtype(DType::F32)?;
    if zeros.sum_all()?.to_scalar::<f32>()? == 0.0 {
        return Ok(());
    }
    Err(WorkerFault::NotFinite { stage: stage() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_value_that_is_not_finite_is_a_fault_that_names_the_stage() {
        let good = Tensor::new(&[f32::MAX, f32::MIN, 0.0], &Device::Cpu).expect("three floats");
        assert!(finite(&good, String::new).is_ok());
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let x = Tensor::new(&[1.0, bad], &Device::Cpu).expect("two floats");
            let fault = finite(&x, || "step 3".to_owned()).expect_err("not finite");
            assert!(fault.to_string().contains("step 3"));
        }
    }
}
