//! The two text encoders of FLUX and their tokenizers.

use crate::fault::Fault;
use crate::pipelines::encoders::Encoded;
use crate::pipelines::families::flux::files::FluxFiles;
use crate::pipelines::parts::clip::Clip;
use crate::pipelines::parts::ignored;
use crate::pipelines::parts::layers::finite;
use crate::pipelines::parts::t5::T5;
use crate::pipelines::parts::tokens::{Ids, Tokens};
use crate::weights::{Meter, Section};
use candle_core::{DType, Device};

/// Token ids of a prompt for both encoders.
pub struct PromptIds {
    /// For T5.
    pub t5: Ids,
    /// For CLIP.
    pub clip: Ids,
}

/// The tokenizers.
pub struct FluxTokens {
    t5: Tokens,
    clip: Tokens,
}

impl FluxTokens {
    /// Reads both vocabularies.
    ///
    /// # Errors
    /// As [`Tokens::load`].
    pub fn load(files: &FluxFiles) -> Result<FluxTokens, Fault> {
        let sizes = &files.described.sizes;
        let places = sizes.clip.max_position_embeddings;
        Ok(FluxTokens {
            t5: Tokens::load(&files.t5_tokenizer, sizes.t5.length, 0)?,
            clip: Tokens::load(&files.clip_tokenizer, places, sizes.clip.pad)?,
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
            clip: self.clip.encode(prompt)?,
        })
    }
}

/// The encoders.
pub struct FluxEncoders {
    t5: T5,
    clip: Clip,
}

impl FluxEncoders {
    /// Loads both.
    ///
    /// # Errors
    /// As [`Section::tensor`]; [`Fault::Configuration`] for a tensor that is left over.
    pub fn load<'a>(
        files: &'a FluxFiles,
        meter: &'a Meter<'a>,
        dtype: DType,
        device: &'a Device,
    ) -> Result<FluxEncoders, Fault> {
        let sizes = &files.described.sizes;
        let part = |weights| Section::new(weights, meter, dtype, device);
        let loaded = FluxEncoders {
            t5: T5::load(&part(&files.t5), &sizes.t5)?,
            clip: Clip::load(&part(&files.clip), &sizes.clip)?,
        };
        files.t5.refuse_unread(&ignored::T5)?;
        files.clip.refuse_unread(&ignored::CLIP_L)?;
        Ok(loaded)
    }

    /// Runs both: T5's last states and CLIP's pooled state.
    ///
    /// # Errors
    /// [`Fault::NotFinite`] when one overflows; the device's faults.
    pub fn encode(&self, t5_ids: &[u32], clip_ids: &[u32]) -> Result<Encoded, Fault> {
        let text = self.t5.forward(t5_ids)?;
        finite(&text, || "T5 encoder".to_owned())?;
        let pooled = self.clip.forward(clip_ids)?.pooled;
        finite(&pooled, || "CLIP encoder".to_owned())?;
        Ok(Encoded { text, pooled })
    }
}
