//! Sizes of the parts of Stable Diffusion 3.5.

use crate::fault::Fault;
use crate::pipelines::parts::sizes::{
    ClipActivation, ClipSizes, DecoderSizes, FluxModelSizes, LatentSizes, T5Sizes, clip_l, heads,
    norm_groups, t5_xxl,
};
use serde::Deserialize;

/// The MMDiT. Its width is `depth` heads of `head_size`.
#[derive(Debug, Clone, Deserialize)]
pub struct MmditSizes {
    /// Blocks, and heads of each.
    pub depth: usize,
    /// Width of a head.
    pub head_size: usize,
    /// Side of the table of positions, in patches.
    pub pos_embed_max_size: usize,
    /// Channels of the latents.
    pub in_channels: usize,
    /// Width of the T5 states, to which the CLIP states are filled up.
    pub context_in_dim: usize,
}

impl MmditSizes {
    /// Width of the streams.
    pub fn hidden_size(&self) -> usize {
        self.depth * self.head_size
    }
}

/// All sizes of a Stable Diffusion 3.5 model.
#[derive(Debug, Clone)]
pub struct Sd3ModelSizes {
    /// The transformer.
    pub transformer: MmditSizes,
    /// The T5 encoder.
    pub t5: T5Sizes,
    /// The CLIP-L encoder.
    pub clip_l: ClipSizes,
    /// The CLIP-G encoder.
    pub clip_g: ClipSizes,
    /// The decoder.
    pub decoder: DecoderSizes,
    /// Scale and shift of the latents.
    pub latent: LatentSizes,
}

impl Sd3ModelSizes {
    /// Stable Diffusion 3.5 Large Turbo as published: the `config.json` files of the repository's
    /// diffusers folders.
    pub fn large_turbo() -> Sd3ModelSizes {
        Sd3ModelSizes {
            transformer: MmditSizes {
                depth: 38,
                head_size: 64,
                pos_embed_max_size: 192,
                in_channels: 16,
                context_in_dim: 4096,
            },
            t5: t5_xxl(),
            clip_l: clip_l(),
            clip_g: clip_g(),
            decoder: FluxModelSizes::schnell().decoder,
            latent: LatentSizes {
                scale_factor: 1.5305,
                shift_factor: 0.0609,
            },
        }
    }

    /// Refuses sizes that no such model can have, before they are used as divisors.
    ///
    /// # Errors
    /// [`Fault::Configuration`] naming the key.
    pub fn check(&self, file: &str) -> Result<(), Fault> {
        let t = &self.transformer;
        for (key, clip) in [("clip_l", &self.clip_l), ("clip_g", &self.clip_g)] {
            let key = format!("{key}.num_attention_heads");
            heads(file, &key, clip.num_attention_heads, clip.hidden_size)?;
        }
        norm_groups(file, &self.decoder)?;
        let refuse = |key: &str, what: String| Err(Fault::configuration(file, key, what));
        if t.depth == 0 || t.head_size == 0 || t.pos_embed_max_size == 0 {
            return refuse("transformer", format!("{t:?} has nothing in it"));
        }
        let clips = self.clip_l.hidden_size + self.clip_g.hidden_size;
        if t.context_in_dim != self.t5.d_model || clips > t.context_in_dim {
            let what = format!(
                "{} is not T5's width {}, or less than CLIP's {clips}",
                t.context_in_dim, self.t5.d_model
            );
            return refuse("transformer.context_in_dim", what);
        }
        if t.in_channels != self.decoder.z_channels {
            let what = format!(
                "{} is not z_channels {}",
                t.in_channels, self.decoder.z_channels
            );
            return refuse("transformer.in_channels", what);
        }
        Ok(())
    }
}

/// The text half of OpenCLIP ViT-bigG/14.
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
