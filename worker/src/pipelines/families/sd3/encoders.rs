//! The three text encoders of Stable Diffusion 3.5, and how their states become one prompt.
//!
//! Source: `StableDiffusion3Pipeline.encode_prompt` in diffusers. CLIP-L is filled up with its end token,
//! CLIP-G with "!"; both give their states before the last block, without the final norm.

use super::files::{Sd3Files, Tokenizers};
use super::sizes::Sd3ModelSizes;
use crate::fault::Fault;
use crate::pipelines::encoders::Encoded;
use crate::pipelines::parts::clip::{Clip, ClipStates};
use crate::pipelines::parts::ignored;
use crate::pipelines::parts::layers::{Linear, finite};
use crate::pipelines::parts::sizes::ClipSizes;
use crate::pipelines::parts::t5::T5;
use crate::pipelines::parts::tokens::{Ids, Tokens};
use crate::weights::{Meter, Section};
use candle_core::{D, DType, Device, Tensor};

/// Token ids of a prompt for all encoders.
pub struct PromptIds {
    /// For T5.
    pub t5: Ids,
    /// For CLIP-L.
    pub clip_l: Ids,
    /// For CLIP-G.
    pub clip_g: Ids,
}

/// The tokenizers.
pub struct Sd3Tokens {
    t5: Tokens,
    clip_l: Tokens,
    clip_g: Tokens,
}

impl Sd3Tokens {
    /// Reads all vocabularies. The published CLIPs share one and differ in the padding token, which is a
    /// special token of each.
    ///
    /// # Errors
    /// As [`Tokens::load`].
    pub fn load(files: &Sd3Files) -> Result<Sd3Tokens, Fault> {
        Sd3Tokens::of(&files.tokenizers, &files.described.sizes)
    }

    /// As [`Sd3Tokens::load`], from the tokenizers alone.
    ///
    /// # Errors
    /// As [`Tokens::load`].
    pub fn of(from: &Tokenizers, sizes: &Sd3ModelSizes) -> Result<Sd3Tokens, Fault> {
        let for_clip =
            |file, sizes: &ClipSizes| Tokens::load(file, sizes.max_position_embeddings, sizes.pad);
        Ok(Sd3Tokens {
            t5: Tokens::load(&from.t5, sizes.t5.length, 0)?,
            clip_l: for_clip(&from.clip_l, &sizes.clip_l)?,
            clip_g: for_clip(&from.clip_g, &sizes.clip_g)?,
        })
    }

    /// Tokenizes a prompt; `t5_length` overrides the model's number of T5 tokens.
    ///
    /// # Errors
    /// [`Fault::BadRequest`] for text that a tokenizer refuses.
    pub fn ids(&self, prompt: &str, t5_length: Option<usize>) -> Result<PromptIds, Fault> {
        let t5 = match t5_length {
            Some(length) => self.t5.encode_to(prompt, length)?,
            None => self.t5.encode(prompt)?,
        };
        Ok(PromptIds {
            t5,
            clip_l: self.clip_l.encode(prompt)?,
            clip_g: self.clip_g.encode(prompt)?,
        })
    }
}

/// The encoders.
pub struct Sd3Encoders {
    t5: T5,
    clip_l: Clip,
    clip_g: Clip,
    projection: Linear, // of CLIP-G's pooled state
}

impl Sd3Encoders {
    /// Loads all three.
    ///
    /// # Errors
    /// As [`Section::tensor`]; [`Fault::Configuration`] for a tensor that is left over.
    pub fn load<'a>(
        files: &'a Sd3Files,
        meter: &'a Meter<'a>,
        dtype: DType,
        device: &'a Device,
    ) -> Result<Sd3Encoders, Fault> {
        let sizes: &Sd3ModelSizes = &files.described.sizes;
        let part = |weights| Section::new(weights, meter, dtype, device);
        let (clip_g, width) = (part(&files.clip_g), sizes.clip_g.hidden_size);
        let loaded = Sd3Encoders {
            t5: T5::load(&part(&files.t5), &sizes.t5)?,
            clip_l: Clip::load(&part(&files.clip_l), &sizes.clip_l)?,
            projection: Linear::without_bias(&clip_g.at("text_projection"), width, width)?,
            clip_g: Clip::load(&clip_g, &sizes.clip_g)?,
        };
        files.t5.refuse_unread(&ignored::T5)?;
        files.clip_l.refuse_unread(&ignored::CLIP_L)?;
        files.clip_g.refuse_unread(&ignored::CLIP_G)?;
        Ok(loaded)
    }

    /// T5's states, (1, s, d_model).
    ///
    /// # Errors
    /// The device's faults.
    pub fn t5(&self, ids: &[u32]) -> Result<Tensor, Fault> {
        self.t5.forward(ids)
    }

    /// CLIP-L's states; its pooled state is not projected.
    ///
    /// # Errors
    /// The device's faults.
    pub fn clip_l(&self, ids: &[u32]) -> Result<ClipStates, Fault> {
        self.clip_l.forward(ids)
    }

    /// CLIP-G's states, the pooled one projected.
    ///
    /// # Errors
    /// The device's faults.
    pub fn clip_g(&self, ids: &[u32]) -> Result<ClipStates, Fault> {
        let states = self.clip_g.forward(ids)?;
        let pooled = self.projection.forward(&states.pooled)?;
        Ok(ClipStates { pooled, ..states })
    }

    /// Runs all encoders and joins what they give.
    ///
    /// # Errors
    /// [`Fault::NotFinite`] when one overflows; the device's faults.
    pub fn encode(&self, ids: &PromptIds) -> Result<Encoded, Fault> {
        let t5 = self.t5(&ids.t5.ids)?;
        finite(&t5, || "T5 encoder".to_owned())?;
        let (l, g) = (self.clip_l(&ids.clip_l.ids)?, self.clip_g(&ids.clip_g.ids)?);
        let encoded = join(&t5, &l, &g)?;
        finite(&encoded.text, || "CLIP encoders".to_owned())?;
        finite(&encoded.pooled, || "CLIP encoders".to_owned())?;
        Ok(encoded)
    }

    #[cfg(test)]
    pub(crate) fn clip_l_mut(&mut self) -> &mut Clip {
        &mut self.clip_l
    }
}

/// `[clip_l | clip_g | 0]` of T5's width, followed by T5's states: (1, 77 + s, d_model); pooled `[l | g]`.
///
/// # Errors
/// The device's faults.
pub fn join(t5: &Tensor, l: &ClipStates, g: &ClipStates) -> Result<Encoded, Fault> {
    let clip = Tensor::cat(&[&l.penultimate, &g.penultimate], D::Minus1)?;
    let missing = t5.dim(D::Minus1)? - clip.dim(D::Minus1)?;
    let clip = clip.pad_with_zeros(D::Minus1, 0, missing)?;
    Ok(Encoded {
        text: Tensor::cat(&[&clip, &t5.to_dtype(clip.dtype())?], 1)?,
        pooled: Tensor::cat(&[&l.pooled, &g.pooled], D::Minus1)?,
    })
}
