//! The few layers that all parts are made of. Shapes are checked when they are loaded.
//!
//! Left-hand sides of products are always contiguous and have no broadcast batch: candle 0.11.1's product
//! on the processor is silently wrong for a transposed left-hand side with a broadcast right-hand side.

use crate::fault::WorkerFault;
use crate::weights::{Matrix, Section};
use crate::work;
use candle_core::{D, DType, Device, Tensor};
use candle_nn::ops;

/// `x W^T + b`, over the last axis.
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

    /// Loads `weight` alone.
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

    /// Loads a convolution (outputs, channels, side, side) whose stride is its side, with its bias: a
    /// product with patches whose values are ordered channel, row, column.
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

    /// Applies it to (…, in), giving (…, out).
    ///
    /// # Errors
    /// The device's faults.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, WorkerFault> {
        self.forward_as(x, x.dtype())
    }

    /// As [`Linear::forward`], rounded to `dtype` instead of that of `x`.
    ///
    /// # Errors
    /// The device's faults.
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

/// Returns the dtype of a product's inputs: f32 on the processor, the stored dtype elsewhere; f64 stays f64.
///
/// The processor's product of halves widens both sides anyway; done here, what follows the product (a
/// bias, a softmax) sees values that are not rounded yet, as in the references' fused kernels.
fn computed(x: &Tensor) -> Result<Tensor, WorkerFault> {
    match x.device() {
        Device::Cpu if x.dtype() != DType::F64 => Ok(x.to_dtype(DType::F32)?),
        _ => Ok(x.clone()),
    }
}

/// `softmax(q k^T * scale + bias) v` over (b, heads, s, d); the bias broadcasts over what it lacks.
///
/// The softmax runs in f32 whatever the dtype, as the references' do: candle's own adds up in the dtype
/// of its input, and a bf16 sum of a few hundred terms is wrong in the first digits.
///
/// # Errors
/// The device's faults.
pub fn attention(
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    scale: f64,
    bias: Option<&Tensor>,
) -> Result<Tensor, WorkerFault> {
    let dtype = v.dtype();
    let (q, k) = (computed(&q.contiguous()?)?, computed(&k.contiguous()?)?);
    let v = computed(&v.contiguous()?)?;
    let mut scores = q.matmul(&k.t()?)?; // (b, heads, s, s)
    if scale != 1.0 {
        scores = (scores * scale)?;
    }
    if let Some(bias) = bias {
        scores = scores.broadcast_add(&bias.to_dtype(scores.dtype())?)?;
    }
    if scores.dtype() != DType::F64 {
        scores = scores.to_dtype(DType::F32)?;
    }
    let weights = ops::softmax_last_dim(&scores)?.to_dtype(v.dtype())?;
    Ok(weights.matmul(&v)?.to_dtype(dtype)?) // (b, heads, s, d)
}

/// (b, s, heads * d) to (b, heads, s, d).
///
/// # Errors
/// The device's faults.
pub fn split_heads(x: &Tensor, heads: usize) -> Result<Tensor, WorkerFault> {
    let (batch, length, width) = x.dims3()?;
    Ok(x.reshape((batch, length, heads, width / heads))?
        .transpose(1, 2)?
        .contiguous()?)
}

/// (b, heads, s, d) to (b, s, heads * d).
///
/// # Errors
/// The device's faults.
pub fn join_heads(x: &Tensor) -> Result<Tensor, WorkerFault> {
    Ok(x.transpose(1, 2)?.flatten_from(D::Minus2)?) // (b, s, heads, d) flattened
}

/// Keeps f16 away from its infinities, as the references do after each block; other dtypes pass.
///
/// # Errors
/// The device's faults.
pub fn within_half(x: Tensor) -> Result<Tensor, WorkerFault> {
    if x.dtype() != DType::F16 {
        return Ok(x);
    }
    const LARGEST: f64 = 65504.0;
    Ok(x.clamp(-LARGEST, LARGEST)?)
}

/// Refuses values that are not finite, naming the stage that made them.
///
/// # Errors
/// [`WorkerFault::NotFinite`], the device's faults.
pub fn finite(x: &Tensor, stage: impl FnOnce() -> String) -> Result<(), WorkerFault> {
    // Zero times a finite value is zero; times anything else it is not, and stays so in a sum.
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
    fn one_value_that_is_not_finite_is_found_and_its_stage_named() {
        let good = Tensor::new(&[f32::MAX, f32::MIN, 0.0], &Device::Cpu).expect("three floats");
        assert!(finite(&good, String::new).is_ok());
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let x = Tensor::new(&[1.0, bad], &Device::Cpu).expect("two floats");
            let fault = finite(&x, || "step 3".to_owned()).expect_err("not finite");
            assert!(fault.to_string().contains("step 3"));
        }
    }
}
