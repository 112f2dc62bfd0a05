//! T5 1.1's encoder: relative positions, gated GELU, and attention scores without a scale.
//!
//! Source: Raffel et al., arXiv:1910.10683; `modeling_t5.py` in transformers (`T5EncoderModel`), which
//! defines the tensor names. Padding is attended, because the image pipelines use no mask.

use crate::fault::WorkerFault;
use crate::pipelines::parts::activation::gelu_tanh;
use crate::pipelines::parts::attention::attention;
use crate::pipelines::parts::layers::{Linear, join_heads, split_heads};
use crate::pipelines::parts::norms::RmsNorm;
use crate::pipelines::parts::sizes::T5Sizes;
use crate::weights::Section;
use candle_core::{DType, Device, Tensor};

const BUCKETS: usize = 32;
const MAX_DISTANCE: f32 = 128.0;

struct T5Block {
    norm: RmsNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    mlp_norm: RmsNorm,
    gate: Linear, // wi_0
    up: Linear,   // wi_1
    down: Linear, // wo
    heads: usize,
    dtype: DType,
}

impl T5Block {
    fn load(section: &Section, sizes: &T5Sizes) -> Result<T5Block, WorkerFault> {
        let (width, inner, mlp) = (sizes.d_model, sizes.d_kv * sizes.num_heads, sizes.d_ff);
        let attention = section.at("layer.0.SelfAttention");
        let dense = section.at("layer.1.DenseReluDense");
        let wo = dense.at("wo").as_dtype(down_dtype(section.dtype()));
        let norm = |name| RmsNorm::load(&section.at(name).as_dtype(DType::F32), "weight", width);
        Ok(T5Block {
            norm: norm("layer.0.layer_norm")?,
            q: Linear::without_bias(&attention.at("q"), width, inner)?,
            k: Linear::without_bias(&attention.at("k"), width, inner)?,
            v: Linear::without_bias(&attention.at("v"), width, inner)?,
            o: Linear::without_bias(&attention.at("o"), inner, width)?,
            mlp_norm: norm("layer.1.layer_norm")?,
            gate: Linear::without_bias(&dense.at("wi_0"), width, mlp)?,
            up: Linear::without_bias(&dense.at("wi_1"), width, mlp)?,
            down: Linear::without_bias(&wo, mlp, width)?,
            heads: sizes.num_heads,
            dtype: section.dtype(),
        })
    }

    /// Computes the block: x (b, s, d_model) in f32, bias (1, heads, s, s).
    fn forward(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor, WorkerFault> {
        let h = self.norm.forward(x)?.to_dtype(self.dtype)?;
        let q = split_heads(&self.q.forward(&h)?, self.heads)?; // (b, heads, s, d_kv)
        let k = split_heads(&self.k.forward(&h)?, self.heads)?;
        let v = split_heads(&self.v.forward(&h)?, self.heads)?;
        let mixed = join_heads(&attention((&q, &k, &v), 1.0, Some(bias))?)?;
        let x = (x + self.o.forward_as(&mixed, DType::F32)?)?;
        let h = self.mlp_norm.forward(&x)?.to_dtype(self.dtype)?;
        let gate = gelu_tanh(&self.gate.forward_as(&h, DType::F32)?)?;
        let gated = (gate * self.up.forward_as(&h, DType::F32)?)?; // (b, s, d_ff)
        let gated = gated.to_dtype(down_dtype(self.dtype))?;
        Ok((&x + self.down.forward_as(&gated, DType::F32)?)?)
    }
}

/// Returns the dtype of the MLP's last product. With the published weights, its input and output exceed the
/// range of f16.
pub fn down_dtype(dtype: DType) -> DType {
    match dtype {
        DType::F16 => DType::F32,
        other => other,
    }
}

/// T5's encoder.
pub struct T5 {
    embedding: Tensor,     // (vocabulary, d_model)
    position_bias: Tensor, // (BUCKETS, heads)
    blocks: Vec<T5Block>,
    norm: RmsNorm,
}

impl T5 {
    /// Loads `shared`, `encoder.block.*` and `encoder.final_layer_norm`.
    ///
    /// # Errors
    /// As [`Section::tensor`].
    pub fn load(section: &Section, sizes: &T5Sizes) -> Result<T5, WorkerFault> {
        let vocabulary = section
            .shape("shared.weight")
            .map_or(sizes.vocab_size, |shape| shape[0]);
        let encoder = section.at("encoder");
        let block = |i| T5Block::load(&encoder.at("block").at(i), sizes);
        let norm = encoder.at("final_layer_norm").as_dtype(DType::F32);
        let attention = encoder.at("block.0.layer.0.SelfAttention.relative_attention_bias");
        Ok(T5 {
            embedding: section
                .at("shared")
                .tensor("weight", &[vocabulary, sizes.d_model])?,
            position_bias: attention.tensor("weight", &[BUCKETS, sizes.num_heads])?,
            blocks: (0..sizes.num_layers).map(block).collect::<Result<_, _>>()?,
            norm: RmsNorm::load(&norm, "weight", sizes.d_model)?,
        })
    }

    /// Encodes token ids to (1, s, d_model) in f32, the dtype of the stream between the blocks.
    ///
    /// # Errors
    /// Faults of the device; [`WorkerFault::Compute`] for an id outside the vocabulary.
    pub fn forward(&self, ids: &[u32]) -> Result<Tensor, WorkerFault> {
        let device = self.embedding.device();
        let bias = self.bias(ids.len(), device)?;
        let ids = Tensor::new(ids, device)?;
        let embedded = self.embedding.index_select(&ids, 0)?.unsqueeze(0)?; // (1, s, d_model)
        let mut x = embedded.to_dtype(DType::F32)?;
        for block in &self.blocks {
            x = block.forward(&x, &bias)?;
        }
        self.norm.forward(&x)
    }

    /// The position bias (1, heads, s, s), from one learned value per head and distance bucket.
    fn bias(&self, length: usize, device: &Device) -> Result<Tensor, WorkerFault> {
        let places = 0..length as i64;
        let pairs = places
            .clone()
            .flat_map(|query| places.clone().map(move |key| key - query));
        let buckets: Vec<u32> = pairs.map(bucket).collect();
        let rows = self
            .position_bias
            .index_select(&Tensor::new(buckets, device)?, 0)?;
        let heads = rows.dim(1)?;
        let bias = rows.reshape((length, length, heads))?.permute((2, 0, 1))?; // (heads, s, s)
        Ok(bias.unsqueeze(0)?.contiguous()?)
    }
}

/// The bucket of the distance `key - query`: one half for each direction; of that, the first half has one
/// bucket per distance, the rest is logarithmic up to [`MAX_DISTANCE`], in f32 like the reference.
fn bucket(distance: i64) -> u32 {
    const PER_DIRECTION: u32 = BUCKETS as u32 / 2;
    const EXACT: u32 = PER_DIRECTION / 2;
    let side = if distance > 0 { PER_DIRECTION } else { 0 };
    let distance = distance.unsigned_abs() as u32;
    if distance < EXACT {
        return side + distance;
    }
    let exact = EXACT as f32;
    let ratio = (distance as f32 / exact).ln() / (MAX_DISTANCE / exact).ln();
    let far = EXACT + (ratio * (PER_DIRECTION - EXACT) as f32) as u32;
    side + far.min(PER_DIRECTION - 1)
}

#[cfg(test)]
mod tests {
    use super::bucket;

    /// Values computed by `T5Attention._relative_position_bucket` in transformers.
    #[test]
    fn near_distances_are_exact_and_far_ones_share_the_last_bucket() {
        assert_eq!(
            [0, -1, -7, -8, -16, -128, -255].map(bucket),
            [0, 1, 7, 8, 10, 15, 15]
        );
        assert_eq!(
            [1, 7, 8, 16, 32, 64, 300].map(bucket),
            [17, 23, 24, 26, 28, 30, 31]
        );
    }
}
