//! Adaptive norms: shifts, scales and gates of a block, computed from a vector of time and prompt.
//!
//! Source: Peebles and Xie, arXiv:2212.09748 (adaLN-Zero). The original files of both families have the order
//! shift, scale, gate.

use crate::fault::WorkerFault;
use crate::pipelines::parts::activation::silu;
use crate::pipelines::parts::layers::Linear;
use crate::pipelines::parts::norms::LayerNorm;
use candle_core::{D, Tensor};

/// Shift, scale and gate of one half of a block, each (b, 1, width).
pub struct Modulation {
    /// The shift added to the normalised activations.
    pub shift: Tensor,
    /// The normalised activations are multiplied by 1 + scale.
    pub scale: Tensor,
    /// The update of the stream is multiplied by it.
    pub gate: Tensor,
}

/// Applies a linear layer to the activated vector (b, width), and splits the result into rows (b, 1, width).
fn rows(linear: &Linear, vector: &Tensor) -> Result<Vec<Tensor>, WorkerFault> {
    let all = linear.forward(&silu(vector)?)?.unsqueeze(1)?; // (b, 1, n * width)
    Ok(all.chunk(all.dim(D::Minus1)? / vector.dim(D::Minus1)?, D::Minus1)?)
}

/// Computes the modulations of a block, three rows each.
///
/// # Errors
/// Faults of the device.
pub fn modulations(linear: &Linear, vector: &Tensor) -> Result<Vec<Modulation>, WorkerFault> {
    let rows = rows(linear, vector)?;
    let (triples, _) = rows.as_chunks::<3>();
    let named = triples
        .iter()
        .cloned()
        .map(|[shift, scale, gate]| Modulation { shift, scale, gate });
    Ok(named.collect())
}

/// Normalises `x` (b, s, width) in a final layer, which has only shift and scale.
///
/// # Errors
/// Faults of the device.
pub fn modulate_last(
    norm: &LayerNorm,
    x: &Tensor,
    linear: &Linear,
    vector: &Tensor,
) -> Result<Tensor, WorkerFault> {
    match rows(linear, vector)?.as_slice() {
        [shift, scale] => norm.modulated(x, shift, scale),
        rows => Err(WorkerFault::Compute(format!(
            "{} rows of modulation",
            rows.len()
        ))),
    }
}

/// Computes `x + gate * update`.
///
/// # Errors
/// Faults of the device.
pub fn gated(x: &Tensor, gate: &Tensor, update: &Tensor) -> Result<Tensor, WorkerFault> {
    Ok((x + update.broadcast_mul(gate)?)?)
}
