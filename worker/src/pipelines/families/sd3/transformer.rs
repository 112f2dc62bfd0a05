//! The MMDiT: predicts a velocity from noisy latents, a prompt and a time.
//!
//! Source: `mmditx.py` in Stability-AI/sd3.5, which defines the tensor names. It runs in f32, bf16 or f16; the
//! embedding of the time is always computed in f32.

use super::block::JointBlock;
use super::sizes::MmditSizes;
use crate::fault::WorkerFault;
use crate::pipelines::parts::embedding::{self, Embedder, TIME_WIDTH};
#[cfg(test)]
use crate::pipelines::parts::heads::QueryKeyNorm;
use crate::pipelines::parts::layers::Linear;
use crate::pipelines::parts::modulation::modulate_last;
use crate::pipelines::parts::norms::LayerNorm;
use crate::sampling::packing::{self, PATCH};
use crate::weights::Section;
use candle_core::{DType, Device, Tensor};

/// Names of the two layers of an embedder.
const LAYERS: (&str, &str) = ("mlp.0", "mlp.2");

/// The inputs that are the same in all steps of a job. A batch of one, or of two: without and with the prompt.
pub struct GuidedPrompt {
    pub(super) prompt: Tensor, // (b, s_txt, context_in_dim)
    pub(super) pooled: Tensor, // (b, clip_l + clip_g)
}

/// The MMDiT.
pub struct Mmdit {
    patches: Linear,   // the patch convolution, as a product
    positions: Tensor, // (side * side, hidden)
    time: Embedder,
    pooled: Embedder,
    prompt: Linear,
    blocks: Vec<JointBlock>,
    final_modulation: Linear,
    final_norm: LayerNorm,
    final_linear: Linear,
    sizes: MmditSizes,
    dtype: DType,
    device: Device,
}

impl Mmdit {
    /// Loads all tensors.
    ///
    /// # Errors
    /// As [`Section::tensor`].
    pub fn load(
        section: &Section,
        sizes: &MmditSizes,
        pooled: usize,
    ) -> Result<Mmdit, WorkerFault> {
        let (width, side) = (sizes.hidden_size(), sizes.pos_embed_max_size);
        let values = sizes.in_channels * PATCH * PATCH; // of a patch
        let block = |i| {
            let at = section.at("joint_blocks").at(i);
            JointBlock::load(&at, sizes, i + 1 == sizes.depth)
        };
        let last = section.at("final_layer");
        let positions = section.tensor("pos_embed", &[1, side * side, width])?;
        Ok(Mmdit {
            patches: Linear::of_patches(
                &section.at("x_embedder.proj"),
                (sizes.in_channels, PATCH),
                width,
            )?,
            positions: positions.squeeze(0)?,
            time: Embedder::load(&section.at("t_embedder"), LAYERS, TIME_WIDTH, width)?,
            pooled: Embedder::load(&section.at("y_embedder"), LAYERS, pooled, width)?,
            prompt: Linear::load(&section.at("context_embedder"), sizes.context_in_dim, width)?,
            blocks: (0..sizes.depth).map(block).collect::<Result<_, _>>()?,
            final_modulation: Linear::load(&last.at("adaLN_modulation.1"), width, 2 * width)?,
            final_norm: LayerNorm::plain(width, 1e-6, section.dtype(), section.device())?,
            final_linear: Linear::load(&last.at("linear"), width, values)?,
            sizes: sizes.clone(),
            dtype: section.dtype(),
            device: section.device().clone(),
        })
    }

    /// Prepares a job from states (b, s_txt, context_in_dim) and pooled states (b, clip_l + clip_g).
    ///
    /// # Errors
    /// Faults of the device.
    pub fn condition(&self, prompt: &Tensor, pooled: &Tensor) -> Result<GuidedPrompt, WorkerFault> {
        Ok(GuidedPrompt {
            prompt: prompt.to_dtype(self.dtype)?,
            pooled: pooled.to_dtype(self.dtype)?,
        })
    }

    /// Predicts the velocities of latents (1, c, h, w) at `time` (0..1000): (b, c, h, w) in f32, one for each prompt of
    /// `by`.
    ///
    /// # Errors
    /// Faults of the device; [`WorkerFault::BadRequest`] for a picture larger than the table of positions.
    pub fn forward(
        &self,
        latents: &Tensor,
        time: f32,
        by: &GuidedPrompt,
    ) -> Result<Tensor, WorkerFault> {
        let (_, _, height, width) = latents.dims4()?;
        let batch = by.prompt.dim(0)?;
        let time = embedding::of_time(time, self.dtype, &self.device)?;
        let vector = self
            .time
            .forward(&time)?
            .broadcast_add(&self.pooled.forward(&by.pooled)?)?; // (b, hidden)
        let tokens = packing::pack(latents)?.to_dtype(self.dtype)?; // (1, s_img, 64)
        let places = self.places(height / PATCH, width / PATCH)?;
        let image = self.patches.forward(&tokens)?.broadcast_add(&places)?;
        let mut image = image.repeat((batch, 1, 1))?; // (b, s_img, hidden)
        let mut prompt = self.prompt.forward(&by.prompt)?; // (b, s_txt, hidden)
        for block in &self.blocks {
            (image, prompt) = block.forward((&image, &prompt), &vector)?;
        }
        let h = modulate_last(&self.final_norm, &image, &self.final_modulation, &vector)?;
        let tokens = self.final_linear.forward(&h)?.to_dtype(DType::F32)?; // (b, s_img, 64)
        packing::unpack_channels_last(&tokens, height, width)
    }

    /// The norms of the last block's prompt heads, for a test that removes them.
    #[cfg(test)]
    pub(crate) fn last_prompt_norm(&mut self) -> Option<&mut QueryKeyNorm> {
        self.blocks.last_mut().map(JointBlock::prompt_norm)
    }

    /// The middle part of the table of positions: (1, rows * columns, hidden).
    fn places(&self, rows: usize, columns: usize) -> Result<Tensor, WorkerFault> {
        let side = self.sizes.pos_embed_max_size;
        if rows > side || columns > side {
            let sentence =
                format!("{rows}x{columns} patches are more than this model's {side}x{side}");
            return Err(WorkerFault::BadRequest {
                field: "size",
                sentence,
            });
        }
        let table = self.positions.reshape((side, side, ()))?;
        let middle =
            table
                .narrow(0, (side - rows) / 2, rows)?
                .narrow(1, (side - columns) / 2, columns)?;
        Ok(middle.contiguous()?.reshape((1, rows * columns, ()))?)
    }
}
