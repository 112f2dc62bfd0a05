//! The sizes that the reference script writes into `meta.json`, as the pipelines know them.

use crate::pipelines::parts::sizes::{
    ClipActivation, ClipSizes, DecoderSizes, FluxModelSizes, T5Sizes, clip_l,
};
use serde::Deserialize;

/// `config` of a `meta.json`.
#[derive(Deserialize)]
pub(crate) struct Preset {
    t5_len: usize,
    clip_vocab: u32,
    t5_vocab: usize,
    clip_l: PresetClip,
    clip_g: Option<PresetClip>,
    t5: PresetT5,
    flux: Option<PresetFlux>,
    mmdit: Option<PresetMmdit>,
    vae: PresetDecoder,
}

#[derive(Deserialize)]
struct PresetClip {
    hidden: usize,
    inter: usize,
    layers: usize,
    heads: usize,
    act: ClipActivation,
}

#[derive(Deserialize)]
struct PresetT5 {
    d_model: usize,
    d_kv: usize,
    heads: usize,
    d_ff: usize,
    layers: usize,
}

#[derive(Deserialize)]
struct PresetDecoder {
    ch: usize,
    mult: Vec<usize>,
    res: usize,
}

/// Sizes of a FLUX transformer.
#[derive(Deserialize)]
pub(crate) struct PresetFlux {
    pub(crate) hidden: usize,
    pub(crate) heads: usize,
    pub(crate) depth: usize,
    pub(crate) single: usize,
    pub(crate) axes: Vec<usize>,
}

/// Sizes of an MMDiT.
#[derive(Deserialize)]
pub(crate) struct PresetMmdit {
    pub(crate) depth: usize,
    pub(crate) head: usize,
    pub(crate) pos: usize,
}

impl Preset {
    /// The FLUX transformer, where the file describes one.
    pub(crate) fn flux(&self) -> Option<&PresetFlux> {
        self.flux.as_ref()
    }

    /// The MMDiT, where the file describes one.
    pub(crate) fn mmdit(&self) -> Option<&PresetMmdit> {
        self.mmdit.as_ref()
    }

    /// The T5 encoder.
    pub(crate) fn t5(&self) -> T5Sizes {
        T5Sizes {
            d_model: self.t5.d_model,
            d_kv: self.t5.d_kv,
            d_ff: self.t5.d_ff,
            num_layers: self.t5.layers,
            num_heads: self.t5.heads,
            vocab_size: self.t5_vocab,
            length: self.t5_len,
        }
    }

    /// CLIP-L, filled up with its end token.
    pub(crate) fn clip_l(&self) -> ClipSizes {
        self.clip(&self.clip_l, self.end())
    }

    /// CLIP-G, filled up with "!", where the file describes one.
    pub(crate) fn clip_g(&self) -> Option<ClipSizes> {
        self.clip_g.as_ref().map(|clip| self.clip(clip, 0))
    }

    /// The end token is the last of the vocabulary.
    fn end(&self) -> u32 {
        self.clip_vocab.saturating_sub(1)
    }

    fn clip(&self, clip: &PresetClip, pad: u32) -> ClipSizes {
        ClipSizes {
            hidden_size: clip.hidden,
            intermediate_size: clip.inter,
            num_hidden_layers: clip.layers,
            num_attention_heads: clip.heads,
            hidden_act: clip.act,
            eos: self.end(),
            pad,
            ..clip_l()
        }
    }

    /// The decoder.
    pub(crate) fn decoder(&self) -> DecoderSizes {
        DecoderSizes {
            ch: self.vae.ch,
            ch_mult: self.vae.mult.clone(),
            num_res_blocks: self.vae.res,
            ..FluxModelSizes::schnell().decoder
        }
    }
}
