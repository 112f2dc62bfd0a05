//! Reads the sizes that the reference script writes to `meta.json`.

use crate::fault::WorkerFault;
use crate::pipelines::parts::sizes::TransformerSizes;
use crate::pipelines::parts::sizes::{
    ClipActivation, ClipSizes, DecoderSizes, EncoderSizes, T5Sizes, clip_l, published_decoder,
};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// The entry `config` of a `meta.json`.
#[derive(Deserialize)]
pub(crate) struct PresetFile {
    t5_len: usize,
    clip_vocab: u32,
    t5_vocab: usize,
    clip_l: PresetClip,
    clip_g: Option<PresetClip>,
    t5: PresetT5,
    vae: PresetDecoder,
    /// Transformers by key, one for each family in the file.
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
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

impl PresetFile {
    /// The transformer of a family, if the file describes one.
    ///
    /// # Errors
    /// [`WorkerFault::Configuration`] if it lacks a key.
    pub(crate) fn transformer<T: TransformerSizes>(
        &self,
        file: &str,
    ) -> Result<Option<T::Preset>, WorkerFault> {
        let Some(value) = self
            .others
            .get(T::PRESET_KEY)
            .filter(|value| !value.is_null())
        else {
            return Ok(None);
        };
        let key = format!("config.{}", T::PRESET_KEY);
        serde_json::from_value(value.clone())
            .map(Some)
            .map_err(|error| WorkerFault::configuration(file, key, error.to_string()))
    }

    /// The text encoders; `None` if the family has a CLIP-G and the file describes none.
    pub(crate) fn encoders(&self, published: &EncoderSizes) -> Option<EncoderSizes> {
        let clip_g = match published.clip_g {
            Some(_) => Some(self.clip_g()?),
            None => None,
        };
        Some(EncoderSizes {
            t5: self.t5(),
            clip_l: self.clip_l(),
            clip_g,
        })
    }

    /// The T5 encoder.
    fn t5(&self) -> T5Sizes {
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

    /// CLIP-L, padded with its end token.
    fn clip_l(&self) -> ClipSizes {
        self.clip(&self.clip_l, self.end())
    }

    /// CLIP-G, padded with "!", if the file describes one.
    fn clip_g(&self) -> Option<ClipSizes> {
        self.clip_g.as_ref().map(|clip| self.clip(clip, 0))
    }

    /// Id of the end token, the last of the vocabulary.
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
            ..published_decoder()
        }
    }
}
