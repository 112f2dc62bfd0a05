//! FLUX.1: two text encoders, a transformer over packed latents, an autoencoder.
//!
//! The parts are public one by one, so that each can be compared with a reference on the reference's own
//! input; [`Flux`] as a [`Pipeline`] only puts them in a row.

pub mod block;
mod job;
pub mod rope;
pub mod transformer;

use crate::fault::Fault;
use crate::pipelines::autoencoder::Decoder;
use crate::pipelines::clip::Clip;
use crate::pipelines::folder::FluxFiles;
use crate::pipelines::layers::finite;
use crate::pipelines::t5::T5;
use crate::pipelines::tokens::{Ids, Tokens};
use crate::pipelines::{Checkpoint, Denoising, JobParameters, Pipeline};
use crate::sampling::packing::PATCH;
use crate::weights::{Meter, Section};
use candle_core::{DType, Device, Tensor};
use transformer::{Conditioning, Transformer};

/// Pixels of a latent's side.
pub const PIXELS_PER_LATENT: usize = 8;

/// Sides of a picture are multiples of this many pixels: a patch of latents.
pub const SIZE_MULTIPLE: u32 = (PIXELS_PER_LATENT * PATCH) as u32;

/// Extras of published files that hold nothing this pipeline needs.
const T5_EXTRAS: [&str; 2] = ["spiece_model", "encoder.embed_tokens.weight"];
const CLIP_EXTRAS: [&str; 3] = [
    "text_model.embeddings.position_ids",
    "logit_scale",
    "text_projection.weight",
];
const AUTOENCODER_EXTRAS: [&str; 1] = ["encoder."];

/// A loaded FLUX model.
pub struct Flux {
    t5_tokens: Tokens,
    clip_tokens: Tokens,
    t5: T5,
    clip: Clip,
    transformer: Transformer,
    decoder: Decoder,
    channels: usize,
    device: Device,
}

/// Token ids of a prompt for both encoders.
pub struct PromptIds {
    /// For T5.
    pub t5: Ids,
    /// For CLIP.
    pub clip: Ids,
}

/// What the encoders make of a prompt.
pub struct Encoded {
    /// T5's last states, (1, s, d_model).
    pub text: Tensor,
    /// CLIP's pooled state, (1, width).
    pub pooled: Tensor,
}

impl Flux {
    /// Loads all parts; encoders and transformer compute in `dtype`, the autoencoder in f32.
    ///
    /// # Errors
    /// [`Fault::Configuration`] for a tensor that is absent, left over or of another shape; the device's faults.
    pub fn load(
        files: &FluxFiles,
        device: &Device,
        dtype: DType,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Flux, Fault> {
        let sizes = &files.described.sizes;
        let meter = Meter::new(&files.weights(), progress);
        let part = |weights, dtype| Section::new(weights, &meter, dtype, device);
        let (t5, clip) = (&files.t5_tokenizer, &files.clip_tokenizer);
        let places = sizes.clip.max_position_embeddings;
        let flux = Flux {
            t5_tokens: Tokens::new(&t5.file, &t5.bytes, sizes.t5.length, 0)?,
            clip_tokens: Tokens::new(&clip.file, &clip.bytes, places, sizes.clip.pad)?,
            t5: T5::load(&part(&files.t5, dtype), &sizes.t5)?,
            clip: Clip::load(&part(&files.clip, dtype), &sizes.clip)?,
            transformer: Transformer::load(&part(&files.transformer, dtype), &sizes.transformer)?,
            decoder: Decoder::load(
                &part(&files.autoencoder, DType::F32),
                &sizes.decoder,
                sizes.latent,
            )?,
            channels: sizes.decoder.z_channels,
            device: device.clone(),
        };
        files.transformer.refuse_unread(&[])?;
        files.autoencoder.refuse_unread(&AUTOENCODER_EXTRAS)?;
        files.t5.refuse_unread(&T5_EXTRAS)?;
        files.clip.refuse_unread(&CLIP_EXTRAS)?;
        Ok(flux)
    }

    /// The device that this model computes on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Tokenizes a prompt; `t5_length` overrides the model's number of T5 tokens.
    ///
    /// # Errors
    /// [`Fault::BadRequest`] for text that a tokenizer refuses.
    pub fn ids(&self, prompt: &str, t5_length: Option<usize>) -> Result<PromptIds, Fault> {
        let t5 = match t5_length {
            Some(length) => self.t5_tokens.encode_to(prompt, length)?,
            None => self.t5_tokens.encode(prompt)?,
        };
        Ok(PromptIds {
            t5,
            clip: self.clip_tokens.encode(prompt)?,
        })
    }

    /// Runs both encoders.
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

    /// Prepares the transformer for a picture of `height` x `width` pixels.
    ///
    /// # Errors
    /// The device's faults.
    pub fn condition(
        &self,
        by: &Encoded,
        height: usize,
        width: usize,
    ) -> Result<Conditioning, Fault> {
        let patch = PIXELS_PER_LATENT * PATCH;
        let positions = rope::positions(by.text.dim(1)?, height / patch, width / patch);
        self.transformer.condition(&by.text, &by.pooled, &positions)
    }

    /// Velocity of packed latents (1, s, 64) at noise level `sigma`, f32.
    ///
    /// # Errors
    /// The device's faults.
    pub fn predict(&self, tokens: &Tensor, sigma: f32, by: &Conditioning) -> Result<Tensor, Fault> {
        self.transformer
            .forward(tokens, crate::sampling::sigmas::timestep(sigma), by)
    }

    /// Latents (1, 16, h/8, w/8) to a picture (1, 3, h, w) in about -1..1.
    ///
    /// # Errors
    /// [`Fault::NotFinite`] when the autoencoder overflows; the device's faults.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor, Fault> {
        let picture = self.decoder.forward(latents)?;
        finite(&picture, || "autoencoder".to_owned())?;
        Ok(picture)
    }

    /// Shape of the latents of a picture: (1, 16, h/8, w/8).
    pub fn latents_shape(&self, width: u32, height: u32) -> (usize, usize, usize, usize) {
        let side = |pixels: u32| pixels as usize / PIXELS_PER_LATENT;
        (1, self.channels, side(height), side(width))
    }
}

impl Pipeline for Flux {
    fn start<'a>(
        &'a mut self,
        job: &JobParameters,
        from: Option<Checkpoint>,
    ) -> Result<Box<dyn Denoising + 'a>, Fault> {
        Ok(Box::new(job::Job::start(self, job, from)?))
    }

    fn latents_bytes(&self, width: u32, height: u32) -> usize {
        let (_, channels, rows, columns) = self.latents_shape(width, height);
        channels * rows * columns * size_of::<f32>()
    }
}
