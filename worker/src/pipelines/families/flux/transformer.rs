//! The FLUX transformer: predicts a velocity from noisy latents, a prompt and a time.
//!
//! Source: `src/flux/model.py` in black-forest-labs/flux, which defines the tensor names.

use super::block::{DoubleBlock, SingleBlock};
use super::rope::{Position, Rotation};
use super::sizes::FluxSizes;
use crate::fault::WorkerFault;
use crate::pipelines::parts::embedding::{self, Embedder, TIME_WIDTH};
use crate::pipelines::parts::layers::Linear;
use crate::pipelines::parts::modulation::modulate_last;
use crate::pipelines::parts::norms::LayerNorm;
use crate::weights::Section;
use candle_core::{DType, Device, Tensor};

/// Names of the two layers of an embedder.
const LAYERS: (&str, &str) = ("in_layer", "out_layer");

/// The inputs that are the same in all steps of a job.
pub struct FluxConditioning {
    text: Tensor,   // (1, s_txt, context_in_dim)
    pooled: Tensor, // (1, vec_in_dim)
    rotation: Rotation,
}

/// The FLUX transformer.
pub struct FluxTransformer {
    img_in: Linear,
    txt_in: Linear,
    time_in: Embedder,
    vector_in: Embedder,
    double: Vec<DoubleBlock>,
    single: Vec<SingleBlock>,
    final_modulation: Linear,
    final_norm: LayerNorm,
    final_linear: Linear,
    sizes: FluxSizes,
    dtype: DType,
    device: Device,
}

impl FluxTransformer {
    /// Loads all tensors.
    ///
    /// # Errors
    /// As [`Section::tensor`].
    pub fn load(section: &Section, sizes: &FluxSizes) -> Result<FluxTransformer, WorkerFault> {
        if section.has("guidance_in.in_layer.weight") {
            let what =
                "belongs to FLUX.1 dev, which is not supported; FLUX.1 schnell does not have it";
            return Err(WorkerFault::configuration(
                "transformer",
                "guidance_in",
                what,
            ));
        }
        let width = sizes.hidden_size;
        let double = |i| DoubleBlock::load(&section.at("double_blocks").at(i), sizes);
        let single = |i| SingleBlock::load(&section.at("single_blocks").at(i), sizes);
        let last = section.at("final_layer");
        Ok(FluxTransformer {
            img_in: Linear::load(&section.at("img_in"), sizes.in_channels, width)?,
            txt_in: Linear::load(&section.at("txt_in"), sizes.context_in_dim, width)?,
            time_in: Embedder::load(&section.at("time_in"), LAYERS, TIME_WIDTH, width)?,
            vector_in: Embedder::load(&section.at("vector_in"), LAYERS, sizes.vec_in_dim, width)?,
            double: (0..sizes.depth).map(double).collect::<Result<_, _>>()?,
            single: (0..sizes.depth_single_blocks)
                .map(single)
                .collect::<Result<_, _>>()?,
            final_modulation: Linear::load(&last.at("adaLN_modulation.1"), width, 2 * width)?,
            final_norm: LayerNorm::plain(width, 1e-6, section.dtype(), section.device())?,
            final_linear: Linear::load(&last.at("linear"), width, sizes.in_channels)?,
            sizes: sizes.clone(),
            dtype: section.dtype(),
            device: section.device().clone(),
        })
    }

    /// Prepares a job from text states (1, s, context_in_dim), the pooled state (1, vec_in_dim), and the positions of
    /// text and patches.
    ///
    /// # Errors
    /// Faults of the device.
    pub fn condition(
        &self,
        text: &Tensor,
        pooled: &Tensor,
        positions: &[Position],
    ) -> Result<FluxConditioning, WorkerFault> {
        let axes = &self.sizes.axes_dim;
        let rotation = Rotation::new(positions, axes, self.sizes.theta, &self.device)?;
        let text = text.to_dtype(self.dtype)?;
        Ok(FluxConditioning {
            text,
            pooled: pooled.to_dtype(self.dtype)?,
            rotation,
        })
    }

    /// A job with positions in bf16, the mistake of casting ids to the dtype of the model.
    #[cfg(test)]
    pub(crate) fn positions_in_bf16(
        &self,
        by: FluxConditioning,
        positions: &[Position],
    ) -> Result<FluxConditioning, WorkerFault> {
        let axes = &self.sizes.axes_dim;
        let rotation = Rotation::in_bf16(positions, axes, self.sizes.theta, &self.device)?;
        Ok(FluxConditioning { rotation, ..by })
    }

    /// Predicts the velocity of tokens (1, s, in_channels) at `time` (0..1000), in f32 with the same shape.
    ///
    /// # Errors
    /// Faults of the device.
    pub fn forward(
        &self,
        tokens: &Tensor,
        time: f32,
        by: &FluxConditioning,
    ) -> Result<Tensor, WorkerFault> {
        let time = embedding::of_time(time, self.dtype, &self.device)?;
        let vector = (self.time_in.forward(&time)? + self.vector_in.forward(&by.pooled)?)?;
        let mut image = self.img_in.forward(&tokens.to_dtype(self.dtype)?)?; // (1, s_img, hidden)
        let mut text = self.txt_in.forward(&by.text)?; // (1, s_txt, hidden)
        for block in &self.double {
            (image, text) = block.forward((&image, &text), &vector, &by.rotation)?;
        }
        let words = text.dim(1)?;
        let mut x = Tensor::cat(&[&text, &image], 1)?; // (1, s, hidden)
        for block in &self.single {
            x = block.forward(&x, &vector, &by.rotation)?;
        }
        self.velocity(&x.narrow(1, words, image.dim(1)?)?, &vector)
    }

    /// The final layer, with shift before scale as in the original files.
    fn velocity(&self, image: &Tensor, vector: &Tensor) -> Result<Tensor, WorkerFault> {
        let h = modulate_last(&self.final_norm, image, &self.final_modulation, vector)?;
        Ok(self.final_linear.forward(&h)?.to_dtype(DType::F32)?)
    }
}
