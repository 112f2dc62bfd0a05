//! The sizes of the FLUX transformer, and those of the published model.

use crate::fault::WorkerFault;
use crate::pipelines::parts::sizes::TransformerSizes;
use crate::pipelines::parts::sizes::{
    EncoderSizes, LatentSizes, ModelSizes, clip_l, heads, norm_groups, published_decoder, t5_xxl,
};
use crate::sampling::packing::PATCH;
use serde::Deserialize;

/// The sizes of the FLUX transformer.
#[derive(Debug, Clone, Deserialize)]
pub struct FluxSizes {
    /// Values per token: channels times patch area.
    pub in_channels: usize,
    /// Width of the streams.
    pub hidden_size: usize,
    /// Number of attention heads.
    pub num_heads: usize,
    /// Number of blocks with two streams.
    pub depth: usize,
    /// Number of blocks with one stream.
    pub depth_single_blocks: usize,
    /// Number of values of a head that each axis of a position rotates; their sum is the width of a head.
    pub axes_dim: Vec<usize>,
    /// Width of the T5 states.
    pub context_in_dim: usize,
    /// Width of the pooled CLIP state.
    pub vec_in_dim: usize,
    /// Width of the MLPs divided by that of the streams.
    pub mlp_ratio: usize,
    /// Base of the rotary frequencies.
    pub theta: f64,
}

/// The sizes of the transformer in a diffusers folder.
#[derive(Deserialize)]
pub struct FluxDiffusersConfig {
    in_channels: usize,
    num_layers: usize,
    num_single_layers: usize,
    attention_head_dim: usize,
    num_attention_heads: usize,
    joint_attention_dim: usize,
    pooled_projection_dim: usize,
    axes_dims_rope: Vec<usize>,
}

/// The sizes of the transformer in a `meta.json` of the reference script.
#[derive(Deserialize)]
pub struct FluxPreset {
    hidden: usize,
    heads: usize,
    depth: usize,
    single: usize,
    axes: Vec<usize>,
}

impl TransformerSizes for FluxSizes {
    type Diffusers = FluxDiffusersConfig;
    type Preset = FluxPreset;
    const PRESET_KEY: &'static str = "flux";
    const NEEDS_PRESET: bool = false; // a file that describes another family fails the check of shapes

    fn check(sizes: &ModelSizes<FluxSizes>, file: &str) -> Result<(), WorkerFault> {
        let t = &sizes.transformer;
        let refuse = |key: &str, what: String| Err(WorkerFault::configuration(file, key, what));
        heads(file, "transformer.num_heads", t.num_heads, t.hidden_size)?;
        sizes.encoders.check(file)?;
        let head = t.hidden_size / t.num_heads;
        let even = t.axes_dim.iter().all(|axis| axis % 2 == 0);
        if t.axes_dim.len() != 3 || t.axes_dim.iter().sum::<usize>() != head || !even {
            let what = format!(
                "{:?} must be three even numbers with the sum {head}, the width of a head",
                t.axes_dim
            );
            return refuse("transformer.axes_dim", what);
        }
        let d = &sizes.decoder;
        norm_groups(file, d)?;
        let values = d.z_channels * PATCH * PATCH;
        if t.in_channels != values {
            let what = format!("{} is not 4 x z_channels {}", t.in_channels, d.z_channels);
            return refuse("transformer.in_channels", what);
        }
        Ok(())
    }

    fn from_diffusers(found: FluxDiffusersConfig, published: &FluxSizes) -> FluxSizes {
        FluxSizes {
            in_channels: found.in_channels,
            hidden_size: found.num_attention_heads * found.attention_head_dim,
            num_heads: found.num_attention_heads,
            depth: found.num_layers,
            depth_single_blocks: found.num_single_layers,
            axes_dim: found.axes_dims_rope,
            context_in_dim: found.joint_attention_dim,
            vec_in_dim: found.pooled_projection_dim,
            ..published.clone()
        }
    }

    fn from_preset(found: FluxPreset, encoders: &EncoderSizes, published: &FluxSizes) -> FluxSizes {
        FluxSizes {
            hidden_size: found.hidden,
            num_heads: found.heads,
            depth: found.depth,
            depth_single_blocks: found.single,
            axes_dim: found.axes,
            context_in_dim: encoders.t5.d_model,
            vec_in_dim: encoders.clip_l.hidden_size,
            ..published.clone()
        }
    }
}

/// The published FLUX.1-schnell: `configs["flux-schnell"]` in black-forest-labs/flux
/// (`src/flux/util.py`), `config.json` of google/t5-v1_1-xxl and openai/clip-vit-large-patch14.
pub fn schnell() -> ModelSizes<FluxSizes> {
    ModelSizes {
        transformer: FluxSizes {
            in_channels: 64,
            hidden_size: 3072,
            num_heads: 24,
            depth: 19,
            depth_single_blocks: 38,
            axes_dim: vec![16, 56, 56],
            context_in_dim: 4096,
            vec_in_dim: 768,
            mlp_ratio: 4,
            theta: 10000.0,
        },
        encoders: EncoderSizes {
            t5: t5_xxl(),
            clip_l: clip_l(),
            clip_g: None,
        },
        decoder: published_decoder(),
        latent: LatentSizes {
            scale_factor: 0.3611,
            shift_factor: 0.1159,
        },
    }
}
