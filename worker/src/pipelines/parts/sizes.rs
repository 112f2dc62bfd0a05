//! The sizes of all parts, with those that tensor shapes do not show: heads, axes, groups, lengths.
//!
//! The defaults are those of the published model. A `config.json`, or the `meta.json` of the reference script,
//! beside the weights replaces them. Every tensor is then requested with the shape computed from these numbers,
//! so a wrong number gives an error that names the tensor.

use crate::fault::WorkerFault;
use ipc_protocol::latents::LatentShape;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// The T5 encoder.
#[derive(Debug, Clone, Deserialize)]
pub struct T5Sizes {
    /// Width of the states.
    pub d_model: usize,
    /// Width of a head.
    pub d_kv: usize,
    /// Width of the MLP.
    pub d_ff: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// Number of attention heads.
    pub num_heads: usize,
    /// Rows of the embedding, if the file does not show them.
    #[serde(default)]
    pub vocab_size: usize,
    /// Number of tokens that the pipeline encodes, including padding.
    pub length: usize,
}

/// The activation of a CLIP encoder's MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClipActivation {
    /// `x * sigmoid(1.702 x)`: CLIP-L.
    QuickGelu,
    /// The exact GELU with the error function: CLIP-G.
    Gelu,
    /// GELU with a hyperbolic tangent, as in some substituted encoders.
    #[serde(rename = "gelu_pytorch_tanh")]
    GeluTanh,
}

/// A CLIP text encoder.
#[derive(Debug, Clone, Deserialize)]
pub struct ClipSizes {
    /// Width of the states.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Number of attention heads.
    pub num_attention_heads: usize,
    /// Number of tokens, including begin and end.
    pub max_position_embeddings: usize,
    /// Activation of the MLPs.
    pub hidden_act: ClipActivation,
    /// Id of the end token; the pooled state is that of its first position.
    pub eos: u32,
    /// Id of the padding token.
    pub pad: u32,
}

/// The autoencoder's decoder.
#[derive(Debug, Clone, Deserialize)]
pub struct DecoderSizes {
    /// Channels at full picture size, before the multipliers.
    pub ch: usize,
    /// Multiplier of each level, finest first.
    pub ch_mult: Vec<usize>,
    /// Number of residual blocks of a level, minus one.
    pub num_res_blocks: usize,
    /// Number of norm groups.
    #[serde(default = "published_groups")]
    pub norm_groups: usize,
    /// Number of channels of the latents.
    pub z_channels: usize,
}

impl DecoderSizes {
    /// Pixels per latent value along each side: each level except the coarsest doubles the sides.
    pub fn downscale(&self) -> usize {
        1 << self.ch_mult.len().saturating_sub(1)
    }

    /// Shape of the decoded latents.
    pub fn latent_shape(&self) -> LatentShape {
        LatentShape {
            channels: self.z_channels as u32,
            downscale: self.downscale() as u32,
        }
    }
}

fn published_groups() -> usize {
    32
}

/// Shift and scale of latents: `latent = (encoded - shift_factor) * scale_factor`.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct LatentSizes {
    /// Factor.
    pub scale_factor: f64,
    /// Shift.
    pub shift_factor: f64,
}

/// All sizes of a model with the transformer sizes `T`.
#[derive(Debug, Clone)]
pub struct ModelSizes<T> {
    /// The transformer.
    pub transformer: T,
    /// The text encoders.
    pub encoders: EncoderSizes,
    /// The decoder.
    pub decoder: DecoderSizes,
    /// Scale and shift of the latents.
    pub latent: LatentSizes,
}

/// Sizes of the text encoders.
#[derive(Debug, Clone)]
pub struct EncoderSizes {
    /// The T5 encoder.
    pub t5: T5Sizes,
    /// The CLIP-L encoder.
    pub clip_l: ClipSizes,
    /// The CLIP-G encoder, if the family has one.
    pub clip_g: Option<ClipSizes>,
}

impl EncoderSizes {
    /// Checks that the heads divide the widths.
    ///
    /// # Errors
    /// [`WorkerFault::Configuration`] with the key.
    pub fn check(&self, file: &str) -> Result<(), WorkerFault> {
        let name = if self.clip_g.is_some() {
            "clip_l"
        } else {
            "clip"
        };
        let clips = [(name, Some(&self.clip_l)), ("clip_g", self.clip_g.as_ref())];
        for (key, clip) in clips {
            if let Some(clip) = clip {
                let key = format!("{key}.num_attention_heads");
                heads(file, &key, clip.num_attention_heads, clip.hidden_size)?;
            }
        }
        Ok(())
    }
}

/// The decoder of all published models; they differ in scale and shift of the latents.
pub fn published_decoder() -> DecoderSizes {
    DecoderSizes {
        ch: 128,
        ch_mult: vec![1, 2, 4, 4],
        num_res_blocks: 2,
        norm_groups: 32,
        z_channels: 16,
    }
}

/// Checks that the norm groups divide the channels of each level.
pub(crate) fn norm_groups(file: &str, d: &DecoderSizes) -> Result<(), WorkerFault> {
    let even = |m: &usize| d.norm_groups > 0 && (m * d.ch).is_multiple_of(d.norm_groups);
    if !d.ch_mult.is_empty() && d.ch_mult.iter().all(even) {
        return Ok(());
    }
    let what = format!(
        "{} does not divide {:?} x {}",
        d.norm_groups, d.ch_mult, d.ch
    );
    Err(WorkerFault::configuration(
        file,
        "autoencoder.norm_groups",
        what,
    ))
}

/// Checks that the heads divide a width.
pub(crate) fn heads(file: &str, key: &str, heads: usize, width: usize) -> Result<(), WorkerFault> {
    if heads > 0 && width.is_multiple_of(heads) {
        return Ok(());
    }
    let what = format!("{heads} does not divide the width {width}");
    Err(WorkerFault::configuration(file, key, what))
}

/// T5 1.1 XXL's encoder with 256 tokens, as in the published models.
pub fn t5_xxl() -> T5Sizes {
    T5Sizes {
        d_model: 4096,
        d_kv: 64,
        d_ff: 10240,
        num_layers: 24,
        num_heads: 64,
        vocab_size: 32128,
        length: 256,
    }
}

/// The text encoder of CLIP ViT-L/14.
pub fn clip_l() -> ClipSizes {
    ClipSizes {
        hidden_size: 768,
        intermediate_size: 3072,
        num_hidden_layers: 12,
        num_attention_heads: 12,
        max_position_embeddings: 77,
        hidden_act: ClipActivation::QuickGelu,
        eos: 49407,
        pad: 49407,
    }
}

/// The text encoder of OpenCLIP ViT-bigG/14.
pub fn clip_g() -> ClipSizes {
    ClipSizes {
        hidden_size: 1280,
        intermediate_size: 5120,
        num_hidden_layers: 32,
        num_attention_heads: 20,
        max_position_embeddings: 77,
        hidden_act: ClipActivation::Gelu,
        eos: 49407,
        pad: 0, // "!"
    }
}

/// The sizes of a family's transformer, as in `config.json`.
pub trait TransformerSizes: Clone + Debug + DeserializeOwned + Send + Sync + 'static {
    /// The content of the transformer's `config.json` in a diffusers folder.
    type Diffusers: DeserializeOwned;
    /// The transformer's entry in `meta.json`.
    type Preset: DeserializeOwned;
    /// Key of that entry.
    const PRESET_KEY: &'static str;
    /// True if a `meta.json` without that key is refused.
    const NEEDS_PRESET: bool;

    /// Checks sizes that no model of the family can have, before they are used as divisors.
    ///
    /// # Errors
    /// [`WorkerFault::Configuration`] naming the key.
    fn check(sizes: &ModelSizes<Self>, file: &str) -> Result<(), WorkerFault>;

    /// Converts the sizes of a diffusers folder.
    fn from_diffusers(found: Self::Diffusers, published: &Self) -> Self;

    /// Converts the sizes of a `meta.json`.
    fn from_preset(found: Self::Preset, encoders: &EncoderSizes, published: &Self) -> Self;
}
