//! The sizes of the MMDiT, and those of the published model.

use crate::fault::WorkerFault;
use crate::pipelines::parts::sizes::TransformerSizes;
use crate::pipelines::parts::sizes::{
    EncoderSizes, LatentSizes, ModelSizes, clip_g, clip_l, norm_groups, published_decoder, t5_xxl,
};
use serde::Deserialize;

/// The sizes of the MMDiT. Its width is `depth` times `head_size`.
#[derive(Debug, Clone, Deserialize)]
pub struct MmditSizes {
    /// Number of blocks, and number of heads of each.
    pub depth: usize,
    /// Width of a head.
    pub head_size: usize,
    /// Side of the table of positions, in patches.
    pub pos_embed_max_size: usize,
    /// Number of channels of the latents.
    pub in_channels: usize,
    /// Width of the T5 states, to which the CLIP states are padded.
    pub context_in_dim: usize,
}

impl MmditSizes {
    /// Width of the streams.
    pub fn hidden_size(&self) -> usize {
        self.depth * self.head_size
    }
}

/// The sizes of the transformer in a diffusers folder.
#[derive(Deserialize)]
pub struct MmditDiffusersConfig {
    in_channels: usize,
    num_layers: usize,
    attention_head_dim: usize,
    joint_attention_dim: usize,
    pos_embed_max_size: usize,
}

/// The sizes of the transformer in a `meta.json` of the reference script.
#[derive(Deserialize)]
pub struct MmditPreset {
    depth: usize,
    head: usize,
    pos: usize,
}

impl TransformerSizes for MmditSizes {
    type Diffusers = MmditDiffusersConfig;
    type Preset = MmditPreset;
    const PRESET_KEY: &'static str = "mmdit";
    const NEEDS_PRESET: bool = true;

    fn check(sizes: &ModelSizes<MmditSizes>, file: &str) -> Result<(), WorkerFault> {
        let (t, encoders) = (&sizes.transformer, &sizes.encoders);
        encoders.check(file)?;
        norm_groups(file, &sizes.decoder)?;
        let refuse = |key: &str, what: String| Err(WorkerFault::configuration(file, key, what));
        if t.depth == 0 || t.head_size == 0 || t.pos_embed_max_size == 0 {
            return refuse("transformer", format!("{t:?} has a size of 0"));
        }
        let clips = pooled_width(encoders);
        if t.context_in_dim != encoders.t5.d_model || clips > t.context_in_dim {
            let what = format!(
                "{} is not T5's width {}, or less than CLIP's {clips}",
                t.context_in_dim, encoders.t5.d_model
            );
            return refuse("transformer.context_in_dim", what);
        }
        if t.in_channels != sizes.decoder.z_channels {
            let what = format!(
                "{} is not z_channels {}",
                t.in_channels, sizes.decoder.z_channels
            );
            return refuse("transformer.in_channels", what);
        }
        Ok(())
    }

    fn from_diffusers(found: MmditDiffusersConfig, _: &MmditSizes) -> MmditSizes {
        MmditSizes {
            depth: found.num_layers,
            head_size: found.attention_head_dim,
            pos_embed_max_size: found.pos_embed_max_size,
            in_channels: found.in_channels,
            context_in_dim: found.joint_attention_dim,
        }
    }

    fn from_preset(
        found: MmditPreset,
        encoders: &EncoderSizes,
        published: &MmditSizes,
    ) -> MmditSizes {
        MmditSizes {
            depth: found.depth,
            head_size: found.head,
            pos_embed_max_size: found.pos,
            context_in_dim: encoders.t5.d_model,
            ..published.clone()
        }
    }
}

/// Width of the joined pooled states of both CLIPs.
pub fn pooled_width(encoders: &EncoderSizes) -> usize {
    let clip_g = encoders.clip_g.as_ref().map_or(0, |clip| clip.hidden_size);
    encoders.clip_l.hidden_size + clip_g
}

/// The published Stable Diffusion 3.5 Large Turbo: the `config.json` files of the repository's diffusers folders.
pub fn large_turbo() -> ModelSizes<MmditSizes> {
    ModelSizes {
        transformer: MmditSizes {
            depth: 38,
            head_size: 64,
            pos_embed_max_size: 192,
            in_channels: 16,
            context_in_dim: 4096,
        },
        encoders: EncoderSizes {
            t5: t5_xxl(),
            clip_l: clip_l(),
            clip_g: Some(clip_g()),
        },
        decoder: published_decoder(),
        latent: LatentSizes {
            scale_factor: 1.5305,
            shift_factor: 0.0609,
        },
    }
}
