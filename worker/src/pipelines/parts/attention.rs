//! Attention: whole on a CPU; on a GPU never with the scores of all pairs of tokens in memory.
//!
//! On a GPU, flash attention computes what it has kernels for. The rest is computed for some queries at a time, so that
//! their scores take at most [`SCORES_BYTES`]. Each query has its own softmax, so the parts are independent.

use crate::fault::WorkerFault;
use crate::pipelines::parts::layers::{computed, filled, floats};
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor};
use candle_nn::ops;
use kernels::InstructionSet;

/// Most memory of scores and their softmax on a GPU, in bytes. The memory need of a model counts it.
pub const SCORES_BYTES: usize = 256 << 20;

/// Bytes for a pair of tokens while scores and their softmax, both in f32, are in memory.
const PAIR_BYTES: usize = 2 * size_of::<f32>();

/// Computes `softmax(q k^T * scale + bias) v` over (b, heads, s, d); the bias is broadcast.
///
/// The softmax is always computed in f32, as in the references: candle's softmax adds in the dtype of its
/// input, and a bf16 sum of a few hundred terms is wrong in its first digits.
///
/// # Errors
/// Faults of the device.
pub fn attention(
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    scale: f64,
    bias: Option<&Tensor>,
) -> Result<Tensor, WorkerFault> {
    if q.device().is_cpu() {
        return whole((q, k, v), scale, bias);
    }
    if bias.is_none()
        && let Some(mixed) = flash((q, k, v), scale)?
    {
        return Ok(mixed);
    }
    let (batch, heads, _, _) = q.dims4()?;
    let row = batch * heads * k.dim(2)? * PAIR_BYTES;
    in_parts((q, k, v), scale, bias, (SCORES_BYTES / row).max(1))
}

/// Computes it with all scores in memory.
fn whole(
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    scale: f64,
    bias: Option<&Tensor>,
) -> Result<Tensor, WorkerFault> {
    let dtype = v.dtype();
    let (q, k) = (computed(&q.contiguous()?)?, computed(&k.contiguous()?)?);
    let v = computed(&v.contiguous()?)?;
    let mut scores = q.matmul(&k.t()?)?; // (b, heads, s, s)
    if bias.is_none() && scores.device().is_cpu() && scores.dtype() == DType::F32 {
        let weights = scores.apply_op1_no_bwd(&HostSoftmax { scale })?;
        return Ok(weights.matmul(&v)?.to_dtype(dtype)?);
    }
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

/// The softmax over the last axis, of values times `scale`, on the CPU.
struct HostSoftmax {
    scale: f64,
}

impl CustomOp1 for HostSoftmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let scores = floats(storage, layout)?;
        let width = layout.dims().last().copied().unwrap_or(1);
        let mut weights = vec![0f32; scores.len()];
        let instructions = InstructionSet::detect();
        kernels::softmax(scores, width, self.scale as f32, &mut weights, instructions);
        Ok((CpuStorage::F32(weights), layout.shape().clone()))
    }
}

/// Computes it for `rows` queries at a time.
fn in_parts(
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    scale: f64,
    bias: Option<&Tensor>,
    rows: usize,
) -> Result<Tensor, WorkerFault> {
    let (batch, heads, length, _) = q.dims4()?;
    if rows >= length {
        return whole((q, k, v), scale, bias);
    }
    let (k, v) = (k.contiguous()?, v.contiguous()?);
    let mixed = Tensor::zeros((batch, heads, length, v.dim(3)?), v.dtype(), v.device())?;
    filled(mixed, 2, rows, |first, count| {
        let bias = bias.map(|bias| match bias.dim(2)? {
            1 => Ok(bias.clone()),
            _ => bias.narrow(2, first, count),
        });
        let part = q.narrow(2, first, count)?;
        whole((&part, &k, &v), scale, bias.transpose()?.as_ref())
    })
}

/// Computes it with flash attention; `None` if there is no kernel for these tensors. It reads (b, heads, s, d) in
/// place.
#[cfg(feature = "flash-attn")]
fn flash(
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    scale: f64,
) -> Result<Option<Tensor>, WorkerFault> {
    // Kernels are compiled without the code for other widths, which would be computed wrongly and without an error.
    const WIDTHS: [usize; 2] = [64, 128];
    let is_half = matches!(q.dtype(), DType::BF16 | DType::F16);
    let is_same = q.dtype() == k.dtype() && q.dtype() == v.dtype();
    let widths = [q.dim(3)?, k.dim(3)?, v.dim(3)?];
    if !is_half || !is_same || widths[0] != widths[1] || widths[1] != widths[2] {
        return Ok(None);
    }
    if !WIDTHS.contains(&widths[0]) {
        return Ok(None);
    }
    let by_token = |x: &Tensor| x.contiguous()?.transpose(1, 2); // (b, s, heads, d)
    let (q, k, v) = (by_token(q)?, by_token(k)?, by_token(v)?);
    let mixed = candle_flash_attn::flash_attn(&q, &k, &v, scale as f32, false)?;
    Ok(Some(mixed.transpose(1, 2)?))
}

#[cfg(not(feature = "flash-attn"))]
fn flash(_: (&Tensor, &Tensor, &Tensor), _: f64) -> Result<Option<Tensor>, WorkerFault> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn heads(seed: u64, length: usize) -> Tensor {
        let values = crate::sampling::noise::normal(seed, 2 * 3 * length * 8);
        Tensor::from_vec(values, (2, 3, length, 8), &Device::Cpu).expect("values of this shape")
    }

    fn flat(x: &Tensor) -> Vec<f32> {
        let flat = x.to_dtype(DType::F32).and_then(|x| x.flatten_all());
        flat.and_then(|x| x.to_vec1()).expect("f32 values")
    }

    #[test]
    fn attention_for_some_queries_at_a_time_equals_the_whole() {
        let (q, k, v) = (heads(1, 37), heads(2, 29), heads(3, 29));
        let bias = Tensor::from_vec(
            crate::sampling::noise::normal(4, 3 * 37 * 29),
            (1, 3, 37, 29),
            &Device::Cpu,
        );
        let bias = bias.expect("values of this shape");
        let row = bias.narrow(2, 0, 1).expect("one row");
        for bias in [None, Some(&bias), Some(&row)] {
            let exact = whole((&q, &k, &v), 0.35, bias).expect("cpu");
            for rows in [1, 5, 36, 37, 100] {
                let ours = in_parts((&q, &k, &v), 0.35, bias, rows).expect("cpu");
                assert_eq!(ours.dims(), exact.dims());
                let pairs = flat(&ours).into_iter().zip(flat(&exact));
                let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst <= 1e-6, "{rows} rows: {worst}");
            }
        }
    }

    #[test]
    fn attention_in_parts_keeps_the_dtype_of_the_values() {
        let half = |x: Tensor| x.to_dtype(DType::BF16).expect("a cast");
        let (q, k, v) = (half(heads(1, 9)), half(heads(2, 9)), half(heads(3, 9)));
        let exact = whole((&q, &k, &v), 0.35, None).expect("cpu");
        let ours = in_parts((&q, &k, &v), 0.35, None, 4).expect("cpu");
        assert_eq!((ours.dtype(), flat(&ours)), (DType::BF16, flat(&exact)));
    }
}
