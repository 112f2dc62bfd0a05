//! The text encoders of a model: T5 and one or two CLIPs, with their tokenizers and files.

use crate::fault::WorkerFault;
use crate::pipelines::parts::clip::{Clip, ClipStates};
use crate::pipelines::parts::ignored;
use crate::pipelines::parts::layers::Linear;
use crate::pipelines::parts::sizes::{ClipSizes, EncoderSizes};
use crate::pipelines::parts::t5::T5;
use crate::pipelines::parts::tokens::{Ids, TokenizerFile, Tokens};
use crate::weights::{Meter, Section, Weights};
use candle_core::{DType, Device, Tensor};

/// The weight files of the encoders.
pub struct EncoderWeights {
    /// T5: `shared`, `encoder.*`.
    pub t5: Weights,
    /// CLIP-L: `text_model.*`.
    pub clip_l: Weights,
    /// CLIP-G, if the family has one: `text_model.*`, `text_projection`.
    pub clip_g: Option<Weights>,
}

/// The `tokenizer.json` of each encoder.
pub struct TokenizerFiles {
    /// T5's tokenizer.
    pub t5: TokenizerFile,
    /// CLIP-L's tokenizer.
    pub clip_l: TokenizerFile,
    /// CLIP-G's tokenizer. The published one is CLIP-L's with another padding token.
    pub clip_g: Option<TokenizerFile>,
}

/// Token ids of a prompt for all encoders.
pub struct PromptIds {
    /// Ids for T5.
    pub t5: Ids,
    /// Ids for CLIP-L.
    pub clip_l: Ids,
    /// Ids for CLIP-G, if the family has one.
    pub clip_g: Option<Ids>,
}

/// Only the ids, as input of the encoders.
#[derive(Debug, Clone, Copy)]
pub struct EncoderIds<'a> {
    /// Ids for T5.
    pub t5: &'a [u32],
    /// Ids for CLIP-L.
    pub clip_l: &'a [u32],
    /// Ids for CLIP-G, if the family has one.
    pub clip_g: Option<&'a [u32]>,
}

impl PromptIds {
    /// Returns only the ids.
    pub fn for_encoders(&self) -> EncoderIds<'_> {
        EncoderIds {
            t5: &self.t5.ids,
            clip_l: &self.clip_l.ids,
            clip_g: self.clip_g.as_ref().map(|ids| ids.ids.as_slice()),
        }
    }
}

/// The tokenizers of all encoders.
pub struct PromptTokenizers {
    t5: Tokens,
    clip_l: Tokens,
    clip_g: Option<Tokens>,
}

impl PromptTokenizers {
    /// Reads all tokenizers. The published CLIPs have the same vocabulary and different padding tokens, which
    /// are special tokens.
    ///
    /// # Errors
    /// As [`Tokens::load`].
    pub fn load(
        files: &TokenizerFiles,
        sizes: &EncoderSizes,
    ) -> Result<PromptTokenizers, WorkerFault> {
        let for_clip =
            |file, sizes: &ClipSizes| Tokens::load(file, sizes.max_position_embeddings, sizes.pad);
        let clip_g = files.clip_g.as_ref().zip(sizes.clip_g.as_ref());
        Ok(PromptTokenizers {
            t5: Tokens::load(&files.t5, sizes.t5.length, 0)?,
            clip_l: for_clip(&files.clip_l, &sizes.clip_l)?,
            clip_g: clip_g
                .map(|(file, sizes)| for_clip(file, sizes))
                .transpose()?,
        })
    }

    /// Tokenizes a prompt. `t5_length` replaces the model's number of T5 tokens.
    ///
    /// # Errors
    /// [`WorkerFault::BadRequest`] for text that a tokenizer refuses.
    pub fn ids(&self, prompt: &str, t5_length: Option<usize>) -> Result<PromptIds, WorkerFault> {
        let t5 = match t5_length {
            Some(length) => self.t5.encode_to(prompt, length)?,
            None => self.t5.encode(prompt)?,
        };
        let clip_g = self.clip_g.as_ref();
        Ok(PromptIds {
            t5,
            clip_l: self.clip_l.encode(prompt)?,
            clip_g: clip_g.map(|tokens| tokens.encode(prompt)).transpose()?,
        })
    }
}

/// The text encoders.
pub struct TextEncoders {
    t5: T5,
    clip_l: Clip,
    clip_g: Option<ProjectedClip>,
}

/// CLIP-G with the projection of its pooled state.
struct ProjectedClip {
    clip: Clip,
    projection: Linear,
}

impl ProjectedClip {
    fn load(section: &Section, sizes: &ClipSizes) -> Result<ProjectedClip, WorkerFault> {
        let width = sizes.hidden_size;
        Ok(ProjectedClip {
            projection: Linear::without_bias(&section.at("text_projection"), width, width)?,
            clip: Clip::load(section, sizes)?,
        })
    }
}

/// Requests all tensors of CLIP-G from a section.
///
/// # Errors
/// As [`Section::tensor`].
pub fn read_clip_g(section: &Section, sizes: &ClipSizes) -> Result<(), WorkerFault> {
    ProjectedClip::load(section, sizes).map(drop)
}

impl TextEncoders {
    /// Loads all encoders.
    ///
    /// # Errors
    /// As [`Section::tensor`]; [`WorkerFault::Configuration`] for a tensor that was not read.
    pub fn load<'a>(
        files: &'a EncoderWeights,
        sizes: &EncoderSizes,
        meter: &'a Meter<'a>,
        dtype: DType,
        device: &'a Device,
    ) -> Result<TextEncoders, WorkerFault> {
        let part = |weights| Section::new(weights, meter, dtype, device);
        let clip_g = files.clip_g.as_ref().zip(sizes.clip_g.as_ref());
        let loaded = TextEncoders {
            t5: T5::load(&part(&files.t5), &sizes.t5)?,
            clip_l: Clip::load(&part(&files.clip_l), &sizes.clip_l)?,
            clip_g: clip_g
                .map(|(weights, sizes)| ProjectedClip::load(&part(weights), sizes))
                .transpose()?,
        };
        files.t5.refuse_unread(&ignored::T5)?;
        files.clip_l.refuse_unread(&ignored::CLIP_L)?;
        if let Some(clip_g) = &files.clip_g {
            clip_g.refuse_unread(&ignored::CLIP_G)?;
        }
        let weights = [&files.t5, &files.clip_l];
        let weights = weights.into_iter().chain(&files.clip_g);
        weights.for_each(|weights| weights.release_loaded(device));
        Ok(loaded)
    }

    /// Computes T5's states, (1, s, d_model).
    ///
    /// # Errors
    /// Faults of the device.
    pub fn t5(&self, ids: &[u32]) -> Result<Tensor, WorkerFault> {
        self.t5.forward(ids)
    }

    /// Computes CLIP-L's states; the pooled state is not projected.
    ///
    /// # Errors
    /// Faults of the device.
    pub fn clip_l(&self, ids: &[u32]) -> Result<ClipStates, WorkerFault> {
        self.clip_l.forward(ids)
    }

    /// Computes CLIP-G's states; the pooled state is projected.
    ///
    /// # Errors
    /// [`WorkerFault::Compute`] if the model has no CLIP-G; faults of the device.
    pub fn clip_g(&self, ids: &[u32]) -> Result<ClipStates, WorkerFault> {
        let none = || WorkerFault::Compute("the model has no CLIP-G".to_owned());
        let encoder = self.clip_g.as_ref().ok_or_else(none)?;
        let states = encoder.clip.forward(ids)?;
        let pooled = encoder.projection.forward(&states.pooled)?;
        Ok(ClipStates { pooled, ..states })
    }

    #[cfg(test)]
    pub(crate) fn clip_l_mut(&mut self) -> &mut Clip {
        &mut self.clip_l
    }
}
