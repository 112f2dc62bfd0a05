//! CLIP's text encoder: causal attention, learned positions, and a pooled state at the end token.
//!
//! Source: Radford et al., arXiv:2103.00020; `modeling_clip.py` in transformers (`CLIPTextModel`), which
//! defines the tensor names.

use crate::fault::WorkerFault;
use crate::pipelines::parts::activation;
use crate::pipelines::parts::attention::attention;
use crate::pipelines::parts::layers::{Linear, join_heads, split_heads};
use crate::pipelines::parts::norms::LayerNorm;
use crate::pipelines::parts::sizes::{ClipActivation, ClipSizes};
use crate::weights::Section;
use candle_core::{DType, Device, IndexOp, Tensor};

const EPSILON: f32 = 1e-5;

struct ClipBlock {
    norm1: LayerNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: usize,
    activation: ClipActivation,
    dtype: DType,
}

impl ClipBlock {
    fn load(section: &Section, sizes: &ClipSizes) -> Result<ClipBlock, WorkerFault> {
        let (width, mlp) = (sizes.hidden_size, sizes.intermediate_size);
        let attention = section.at("self_attn");
        let norm = |name| section.at(name).as_dtype(DType::F32);
        let square = |name| Linear::load(&attention.at(name), width, width);
        Ok(ClipBlock {
            norm1: LayerNorm::load(&norm("layer_norm1"), width, EPSILON)?,
            q: square("q_proj")?,
            k: square("k_proj")?,
            v: square("v_proj")?,
            out: square("out_proj")?,
            norm2: LayerNorm::load(&norm("layer_norm2"), width, EPSILON)?,
            fc1: Linear::load(&section.at("mlp.fc1"), width, mlp)?,
            fc2: Linear::load(&section.at("mlp.fc2"), mlp, width)?,
            heads: sizes.num_attention_heads,
            activation: sizes.hidden_act,
            dtype: section.dtype(),
        })
    }

    /// Computes the block: x (b, s, width) in f32, mask (s, s).
    fn forward(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor, WorkerFault> {
        let h = self.norm1.forward(x)?.to_dtype(self.dtype)?;
        let q = split_heads(&self.q.forward(&h)?, self.heads)?; // (b, heads, s, d)
        let k = split_heads(&self.k.forward(&h)?, self.heads)?;
        let v = split_heads(&self.v.forward(&h)?, self.heads)?;
        let scale = 1.0 / (q.dim(3)? as f64).sqrt();
        let mixed = join_heads(&attention((&q, &k, &v), scale, Some(mask))?)?;
        let x = (x + self.out.forward_as(&mixed, DType::F32)?)?;
        let h = self.norm2.forward(&x)?.to_dtype(self.dtype)?;
        let h = self.fc1.forward(&h)?;
        let h = match self.activation {
            ClipActivation::QuickGelu => activation::quick_gelu(&h)?,
            ClipActivation::Gelu => activation::gelu_erf(&h)?,
            ClipActivation::GeluTanh => activation::gelu_tanh(&h)?,
        };
        Ok((x + self.fc2.forward_as(&h, DType::F32)?)?)
    }
}

/// The encoder's states of a prompt, in f32, as is the stream between the blocks.
pub struct ClipStates {
    /// The last hidden states after the final norm, (1, s, width).
    pub last: Tensor,
    /// The hidden states before the last block, without the final norm, (1, s, width).
    pub penultimate: Tensor,
    /// The last state at the first end token after the final norm, (1, width); not projected.
    pub pooled: Tensor,
}

/// CLIP's text encoder.
pub struct Clip {
    tokens: Tensor,    // (vocabulary, width)
    positions: Tensor, // (positions, width)
    blocks: Vec<ClipBlock>,
    norm: LayerNorm,
    end: u32,
}

impl Clip {
    /// Loads `text_model.*`.
    ///
    /// # Errors
    /// As [`Section::tensor`].
    pub fn load(section: &Section, sizes: &ClipSizes) -> Result<Clip, WorkerFault> {
        let section = section.at("text_model");
        let embeddings = section.at("embeddings");
        let block = |i| ClipBlock::load(&section.at("encoder.layers").at(i), sizes);
        let (width, places) = (sizes.hidden_size, sizes.max_position_embeddings);
        let norm = section.at("final_layer_norm").as_dtype(DType::F32);
        let token_embedding = embeddings.at("token_embedding");
        let rows = token_embedding
            .shape("weight")
            .map_or(sizes.eos as usize + 1, |s| s[0]);
        Ok(Clip {
            tokens: token_embedding.tensor("weight", &[rows, width])?,
            positions: embeddings
                .at("position_embedding")
                .tensor("weight", &[places, width])?,
            blocks: (0..sizes.num_hidden_layers)
                .map(block)
                .collect::<Result<_, _>>()?,
            norm: LayerNorm::load(&norm, width, EPSILON)?,
            end: sizes.eos,
        })
    }

    /// Sets the activation of the MLPs, for a test with a wrong one.
    #[cfg(test)]
    pub(crate) fn set_activation(&mut self, activation: ClipActivation) {
        for block in &mut self.blocks {
            block.activation = activation;
        }
    }

    /// Encodes token ids, at most one for each position.
    ///
    /// # Errors
    /// Faults of the device; [`WorkerFault::Compute`] for an id outside the vocabulary.
    pub fn forward(&self, ids: &[u32]) -> Result<ClipStates, WorkerFault> {
        let device = self.tokens.device();
        // The first end token counts, because the padding may have the same id.
        let end = ids
            .iter()
            .position(|id| *id == self.end)
            .unwrap_or(ids.len() - 1);
        let places = self.positions.narrow(0, 0, ids.len())?;
        let embedded = self.tokens.index_select(&Tensor::new(ids, device)?, 0)?;
        let places = places.to_dtype(DType::F32)?;
        let mut x = (embedded.to_dtype(DType::F32)? + places)?.unsqueeze(0)?; // (1, s, width)
        let mask = causal(ids.len(), x.dtype(), device)?;
        let mut penultimate = x.clone();
        for block in &self.blocks {
            penultimate = x.clone();
            x = block.forward(&x, &mask)?;
        }
        let last = self.norm.forward(&x)?;
        Ok(ClipStates {
            pooled: last.i((.., end))?,
            last,
            penultimate,
        })
    }
}

/// The causal mask (s, s): 0 for keys up to the query, minus infinity for later keys.
fn causal(length: usize, dtype: DType, device: &Device) -> Result<Tensor, WorkerFault> {
    let value = |query: usize, key: usize| if key > query { f32::NEG_INFINITY } else { 0.0 };
    let values = (0..length).flat_map(|query| (0..length).map(move |key| value(query, key)));
    let mask = Tensor::from_vec(values.collect::<Vec<f32>>(), (length, length), device)?;
    Ok(mask.to_dtype(dtype)?)
}
