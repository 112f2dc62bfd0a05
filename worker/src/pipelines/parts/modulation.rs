//! Adaptive norms: a vector of time and prompt shifts, scales and gates what a block does.
//!
//! Source: Peebles and Xie, arXiv:2212.09748 (adaLN-Zero); the order shift, scale, gate is that of the
//! original files of both families.

use crate::fault::WorkerFault;
use crate::pipelines::parts::activation::silu;
use crate::pipelines::parts::layers::Linear;
use crate::pipelines::parts::norms::LayerNorm;
use candle_core::{D, Tensor};

/// Shift, scale and gate of one half of a block, each (b, 1, width).
pub struct Modulation {
    /// Added to the normed stream.
    pub shift: Tensor,
    /// The normed stream is multiplied by one more than it.
    pub scale: Tensor,
    /// The factor of the half's addition to the stream.
    pub gate: Tensor,
}

/// Rows of `width` values, each (b, 1, width), off a linear layer over the activated vector (b, width).
fn rows(linear: &Linear, vector: &Tensor) -> Result<Vec<Tensor>, WorkerFault> {
    let all = linear.forward(&silu(vector)?)?.unsqueeze(1)?; // (b, 1, n * width)
    Ok(all.chunk(all.dim(D::Minus1)? / vector.dim(D::Minus1)?, D::Minus1)?)
}

/// Reads modulations, three rows each.
///
/// # Errors
/// The device's faults.
pub fn modulations(linear: &Linear, vector: &Tensor) -> Result<Vec<Modulation>, WorkerFault> {
    let rows = rows(linear, vector)?;
    let (triples, _) = rows.as_chunks::<3>();
    let named = triples
        .iter()
        .cloned()
        .map(|[shift, scale, gate]| Modulation { shift, scale, gate });
    Ok(named.collect())
}

/// Norms `x` (b, s, width) by a layer that gives nothing but shift and scale: a last one.
///
/// # Errors
/// The device's faults.
pub fn modulate_last(
    norm: &LayerNorm,
    x: &Tensor,
    linear: &Linear,
    vector: &Tensor,
) -> Result<Tensor, WorkerFault> {
    match rows(linear, vector)?.as_slice() {
        [shift, scale] => modulate(norm, x, shift, scale),
        rows => Err(WorkerFault::Compute(format!(
            "{} rows of modulation",
            rows.len()
        ))),
    }
}

/// `norm(x) * (1 + scale) + shift`.
///
/// # Errors
/// The device's faults.
pub fn modulate(
    norm: &LayerNorm,
    x: &Tensor,
    shift: &Tensor,
    scale: &Tensor,
) -> Result<Tensor, WorkerFault> {
    Ok(norm
        .forward(x)?
        .broadcast_mul(&(scale + 1.0)?)?
        .broadcast_add(shift)?)
}

/// `x + gate * update`.
///
/// # Errors
/// The device's faults.
pub fn gated(x: &Tensor, gate: &Tensor, update: &Tensor) -> Result<Tensor, WorkerFault> {
    Ok((x + update.broadcast_mul(gate)?)?)
}
