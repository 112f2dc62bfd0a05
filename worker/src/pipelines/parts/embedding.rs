//! Embeddings of the time and of the prompt's pooled state, the transformer's inputs besides tokens.

use crate::fault::WorkerFault;
use crate::pipelines::parts::activation::silu;
use crate::pipelines::parts::layers::Linear;
use crate::weights::Section;
use candle_core::{DType, Device, Tensor};

/// Number of values of the sinusoidal time embedding.
pub const TIME_WIDTH: usize = 256;

/// An embedder: two linear layers with SiLU between them.
pub struct Embedder {
    first: Linear,
    second: Linear,
}

impl Embedder {
    /// Loads the layers of these two names: `inputs` to `width`, and `width` to `width`.
    ///
    /// # Errors
    /// As [`Section::tensor`].
    pub fn load(
        section: &Section,
        (first, second): (&str, &str),
        inputs: usize,
        width: usize,
    ) -> Result<Embedder, WorkerFault> {
        let first = Linear::load(&section.at(first), inputs, width)?;
        Ok(Embedder {
            first,
            second: Linear::load(&section.at(second), width, width)?,
        })
    }

    /// Computes (b, width) from (b, inputs).
    ///
    /// # Errors
    /// Faults of the device.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, WorkerFault> {
        self.second.forward(&silu(&self.first.forward(x)?)?)
    }
}

/// The sinusoidal embedding of `time` (0..1000): cosines, then sines, at decreasing frequencies, (1,
/// [`TIME_WIDTH`]).
///
/// It is computed in f32 like the reference, because its roundings are part of the model's input.
///
/// # Errors
/// Faults of the device.
pub fn of_time(time: f32, dtype: DType, device: &Device) -> Result<Tensor, WorkerFault> {
    let half = TIME_WIDTH / 2;
    let slope = -(10000f64.ln()) as f32;
    let angle = |i: usize| (slope * i as f32 / half as f32).exp() * time;
    let cosines = (0..half).map(|i| angle(i).cos());
    let values: Vec<f32> = cosines.chain((0..half).map(|i| angle(i).sin())).collect();
    Ok(Tensor::from_vec(values, (1, TIME_WIDTH), device)?.to_dtype(dtype)?)
}
