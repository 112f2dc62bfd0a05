//! The two kinds of blocks of the FLUX transformer.
//!
//! Source: `src/flux/modules/layers.py` in black-forest-labs/flux, which defines the tensor names.

use super::rope::Rotation;
use super::sizes::FluxSizes;
use crate::fault::WorkerFault;
use crate::pipelines::parts::activation::gelu_tanh;
use crate::pipelines::parts::heads::{Heads, QueryKeyNorm};
use crate::pipelines::parts::layers::{Linear, within_half};
use crate::pipelines::parts::modulation::{Modulation, gated, modulations};
use crate::pipelines::parts::norms::{LayerNorm, RmsNorm};
use crate::weights::Section;
use candle_core::{D, Tensor};

fn head_norms(section: &Section, head: usize) -> Result<QueryKeyNorm, WorkerFault> {
    let query = RmsNorm::load(&section.at("query_norm"), "scale", head)?;
    Ok(QueryKeyNorm {
        query,
        key: RmsNorm::load(&section.at("key_norm"), "scale", head)?,
    })
}

/// Rotates queries and keys by their positions, and computes the attention: (b, s, hidden).
fn attend(heads: Heads, rotation: &Rotation) -> Result<Tensor, WorkerFault> {
    let (q, k) = (rotation.apply(&heads.q)?, rotation.apply(&heads.k)?);
    Heads { q, k, v: heads.v }.attend()
}

/// One stream of a [`DoubleBlock`].
struct FluxStream {
    modulation: Linear,
    norm: LayerNorm,
    qkv: Linear,
    heads_norm: QueryKeyNorm,
    proj: Linear,
    mlp: (Linear, Linear),
    heads: usize,
}

impl FluxStream {
    fn load(section: &Section, name: &str, sizes: &FluxSizes) -> Result<FluxStream, WorkerFault> {
        let at = |part: &str| section.at(format!("{name}_{part}"));
        let (width, mlp) = (sizes.hidden_size, sizes.hidden_size * sizes.mlp_ratio);
        let head = width / sizes.num_heads;
        Ok(FluxStream {
            modulation: Linear::load(&at("mod.lin"), width, 6 * width)?,
            norm: LayerNorm::plain(width, 1e-6, section.dtype(), section.device())?,
            qkv: Linear::load(&at("attn.qkv"), width, 3 * width)?,
            heads_norm: head_norms(&at("attn.norm"), head)?,
            proj: Linear::load(&at("attn.proj"), width, width)?,
            mlp: (
                Linear::load(&at("mlp.0"), width, mlp)?,
                Linear::load(&at("mlp.2"), mlp, width)?,
            ),
            heads: sizes.num_heads,
        })
    }

    fn heads(&self, x: &Tensor, by: &Modulation) -> Result<Heads, WorkerFault> {
        let h = self.norm.modulated(x, &by.shift, &by.scale)?;
        Heads::split(&self.qkv.forward(&h)?, &self.heads_norm, self.heads)
    }

    /// Adds the result of the attention, then that of the MLP.
    fn update(&self, x: &Tensor, mixed: &Tensor, by: &[Modulation]) -> Result<Tensor, WorkerFault> {
        let x = gated(x, &by[0].gate, &self.proj.forward(mixed)?)?;
        let h = self.norm.modulated(&x, &by[1].shift, &by[1].scale)?;
        let h = self.mlp.1.forward(&gelu_tanh(&self.mlp.0.forward(&h)?)?)?;
        within_half(gated(&x, &by[1].gate, &h)?)
    }
}

/// A block with separate weights for text and picture, and joint attention.
pub struct DoubleBlock {
    image: FluxStream,
    text: FluxStream,
}

impl DoubleBlock {
    /// Loads `double_blocks.N`.
    ///
    /// # Errors
    /// As [`Section::tensor`].
    pub fn load(section: &Section, sizes: &FluxSizes) -> Result<DoubleBlock, WorkerFault> {
        let image = FluxStream::load(section, "img", sizes)?;
        Ok(DoubleBlock {
            image,
            text: FluxStream::load(section, "txt", sizes)?,
        })
    }

    /// Computes (image, text) from (image, text, vector): (b, s_img, hidden), (b, s_txt, hidden), (b, hidden).
    ///
    /// # Errors
    /// Faults of the device.
    pub fn forward(
        &self,
        (image, text): (&Tensor, &Tensor),
        vector: &Tensor,
        rotation: &Rotation,
    ) -> Result<(Tensor, Tensor), WorkerFault> {
        let image_by = modulations(&self.image.modulation, vector)?;
        let text_by = modulations(&self.text.modulation, vector)?;
        let image_heads = self.image.heads(image, &image_by[0])?;
        let text_heads = self.text.heads(text, &text_by[0])?;
        let mixed = attend(Heads::joined(&text_heads, &image_heads)?, rotation)?; // (b, s, hidden)
        let (words, patches) = (text.dim(1)?, image.dim(1)?);
        let image = self
            .image
            .update(image, &mixed.narrow(1, words, patches)?, &image_by)?;
        let text = self
            .text
            .update(text, &mixed.narrow(1, 0, words)?, &text_by)?;
        Ok((image, text))
    }
}

/// A block over text and picture as one sequence of tokens, with parallel attention and MLP.
pub struct SingleBlock {
    modulation: Linear,
    norm: LayerNorm,
    linear1: Linear, // query, key, value and the MLP's first layer
    heads_norm: QueryKeyNorm,
    linear2: Linear, // the attention's projection and the MLP's second layer
    heads: usize,
    width: usize,
}

impl SingleBlock {
    /// Loads `single_blocks.N`.
    ///
    /// # Errors
    /// As [`Section::tensor`].
    pub fn load(section: &Section, sizes: &FluxSizes) -> Result<SingleBlock, WorkerFault> {
        let (width, mlp) = (sizes.hidden_size, sizes.hidden_size * sizes.mlp_ratio);
        let head = width / sizes.num_heads;
        Ok(SingleBlock {
            modulation: Linear::load(&section.at("modulation.lin"), width, 3 * width)?,
            norm: LayerNorm::plain(width, 1e-6, section.dtype(), section.device())?,
            linear1: Linear::load(&section.at("linear1"), width, 3 * width + mlp)?,
            heads_norm: head_norms(&section.at("norm"), head)?,
            linear2: Linear::load(&section.at("linear2"), width + mlp, width)?,
            heads: sizes.num_heads,
            width,
        })
    }

    /// Computes the block: x (b, s, hidden), vector (b, hidden).
    ///
    /// # Errors
    /// Faults of the device.
    pub fn forward(
        &self,
        x: &Tensor,
        vector: &Tensor,
        rotation: &Rotation,
    ) -> Result<Tensor, WorkerFault> {
        let by = modulations(&self.modulation, vector)?;
        let h = self
            .linear1
            .forward(&self.norm.modulated(x, &by[0].shift, &by[0].scale)?)?;
        let fused = 3 * self.width;
        let mlp = h.narrow(D::Minus1, fused, h.dim(D::Minus1)? - fused)?;
        let heads = Heads::split(
            &h.narrow(D::Minus1, 0, fused)?,
            &self.heads_norm,
            self.heads,
        )?;
        let mixed = attend(heads, rotation)?;
        let both = Tensor::cat(&[&mixed, &gelu_tanh(&mlp.contiguous()?)?], 2)?; // (b, s, hidden + mlp)
        within_half(gated(x, &by[0].gate, &self.linear2.forward(&both)?)?)
    }
}
