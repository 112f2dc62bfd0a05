//! Stable Diffusion 3.5: three text encoders, the MMDiT over patches of latents, an autoencoder.
//!
//! The parts are public one by one, so that each can be compared with a reference on the reference's own
//! input; [`Sd3`] as a [`Pipeline`] only puts them in a row.

mod block;
pub mod configuration;
pub mod encoders;
pub mod files;
pub mod sizes;
pub mod transformer;

use crate::fault::Fault;
use crate::pipelines::drawing::{self, Drawing, Painter};
use crate::pipelines::encoders::{Bench, Encoded, Encoders, home};
use crate::pipelines::folder::lexicon::Lexicon;
use crate::pipelines::parts::autoencoder::Decoder;
use crate::pipelines::parts::ignored;
use crate::pipelines::parts::layers::finite;
use crate::pipelines::pipeline::{Checkpoint, Denoising, JobParameters, Pipeline, Settings};
use crate::pipelines::preview::Colours;
use crate::sampling::sigmas;
use crate::weights::{Depth, Meter, Section};
use candle_core::{DType, Device, Tensor};
use encoders::{Sd3Encoders, Sd3Tokens};
use files::Sd3Files;
use ipc_protocol::reading::Reading;
use sizes::Sd3ModelSizes;
use transformer::{Conditioning, Mmdit};

/// Most guidance that is taken.
pub const MAX_GUIDANCE: f32 = 10.0;

/// A loaded Stable Diffusion 3.5 model.
pub struct Sd3 {
    tokens: Sd3Tokens,
    sizes: Sd3ModelSizes,
    lexicon: Lexicon,
    encoders: Bench<Sd3Encoders>,
    files: Option<Sd3Files>, // kept where the encoders are not
    core: Core,
}

/// What draws once a prompt is encoded.
struct Core {
    transformer: Mmdit,
    decoder: Decoder,
    channels: usize,
    colours: Option<Colours>,
    dtype: DType,
    device: Device,
}

/// A prompt, perhaps one that the picture should be led away from, and how far.
pub struct Guided {
    conditioning: Conditioning,
    guidance: Option<f64>,
}

impl Guided {
    /// Velocities that a step evaluates.
    pub fn evaluations(&self) -> usize {
        if self.guidance.is_some() { 2 } else { 1 }
    }
}

impl Sd3 {
    /// Loads all parts; encoders and transformer compute in the settings' dtype, the autoencoder in f32.
    ///
    /// # Errors
    /// [`Fault::Configuration`] for a tensor that is absent, left over or of another shape; the device's faults.
    pub fn load(
        files: Sd3Files,
        device: &Device,
        settings: Settings,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Sd3, Fault> {
        let (encoders, core) = parts(&files, Depth::Values, device, settings, progress)?;
        Ok(Sd3 {
            tokens: Sd3Tokens::load(&files)?,
            sizes: files.described.sizes.clone(),
            lexicon: files.described.lexicon.clone(),
            files: (settings.encoders == Encoders::Drop).then_some(files),
            encoders,
            core,
        })
    }

    /// Sizes of all parts.
    pub fn sizes(&self) -> &Sd3ModelSizes {
        &self.sizes
    }

    /// The tokenizers.
    pub fn tokens(&self) -> &Sd3Tokens {
        &self.tokens
    }

    /// The encoders and how often they ran.
    pub fn encoders(&self) -> &Bench<Sd3Encoders> {
        &self.encoders
    }

    /// The device that this model computes on.
    pub fn device(&self) -> &Device {
        &self.core.device
    }

    /// Prepares the transformer; `away` with a guidance above 1 makes it evaluate a batch of two.
    ///
    /// # Errors
    /// The device's faults.
    pub fn condition(
        &self,
        prompt: &Encoded,
        away: Option<(&Encoded, f32)>,
    ) -> Result<Guided, Fault> {
        let Some((negative, guidance)) = away else {
            let conditioning = self
                .core
                .transformer
                .condition(&prompt.text, &prompt.pooled)?;
            return Ok(Guided {
                conditioning,
                guidance: None,
            });
        };
        let text = Tensor::cat(&[&negative.text, &prompt.text], 0)?; // (2, s, width)
        let pooled = Tensor::cat(&[&negative.pooled, &prompt.pooled], 0)?;
        Ok(Guided {
            conditioning: self.core.transformer.condition(&text, &pooled)?,
            guidance: Some(f64::from(guidance)),
        })
    }

    /// Velocities of latents (1, 16, h/8, w/8) at noise level `sigma`: f32, of a batch of two the one
    /// without the prompt first.
    ///
    /// # Errors
    /// The device's faults.
    pub fn predict(&self, latents: &Tensor, sigma: f32, by: &Guided) -> Result<Tensor, Fault> {
        let time = sigmas::record(sigma);
        let core = &self.core;
        core.transformer.forward(latents, time, &by.conditioning)
    }

    /// One velocity of those that [`Sd3::predict`] gives.
    ///
    /// # Errors
    /// The device's faults.
    pub fn guide(&self, velocities: &Tensor, by: &Guided) -> Result<Tensor, Fault> {
        guided(velocities, by.guidance)
    }

    /// Latents (1, 16, h/8, w/8) to a picture (1, 3, h, w) in about -1..1.
    ///
    /// # Errors
    /// [`Fault::NotFinite`] when the autoencoder overflows; the device's faults.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor, Fault> {
        self.core.picture(latents)
    }

    /// Encodes a prompt and says what became of its words.
    fn encode(&mut self, prompt: &str) -> Result<(Encoded, Reading), Fault> {
        let ids = self.tokens.ids(prompt, None)?;
        let device = home(self.encoders.place(), &self.core.device);
        let (files, dtype) = (&self.files, self.core.dtype);
        let load = || {
            let absent = || Fault::Compute("the encoders' files are not kept".to_owned());
            let files = files.as_ref().ok_or_else(absent)?;
            let mut untold = |_| {};
            let meter = Meter::new(&files.weights(), &mut untold);
            Sd3Encoders::load(files, &meter, dtype, &device)
        };
        let run = |encoders: &Sd3Encoders| encoders.encode(&ids);
        let encoded = self.encoders.encode(prompt, &self.core.device, load, run)?;
        Ok((encoded, self.lexicon.reading(&ids.t5)))
    }

    /// The transformer, for a test that spoils it.
    #[cfg(test)]
    pub(crate) fn transformer_mut(&mut self) -> &mut Mmdit {
        &mut self.core.transformer
    }

    /// The encoders, for a test that spoils them.
    #[cfg(test)]
    pub(crate) fn encoders_mut(&mut self) -> Option<&mut Sd3Encoders> {
        self.encoders.held_mut()
    }
}

/// Everything that has weights.
fn parts(
    files: &Sd3Files,
    depth: Depth,
    device: &Device,
    settings: Settings,
    progress: &mut dyn FnMut(f32),
) -> Result<(Bench<Sd3Encoders>, Core), Fault> {
    let sizes = &files.described.sizes;
    let meter = Meter::new(&files.weights(), progress).to(depth);
    let part = |weights, dtype| Section::new(weights, &meter, dtype, device);
    let place = home(settings.encoders, device);
    // Encoders first: where they are dropped again, what follows finds their memory free.
    let encoders = Sd3Encoders::load(files, &meter, settings.dtype, &place)?;
    let encoders = Bench::new(encoders, settings.encoders);
    let pooled = sizes.clip_l.hidden_size + sizes.clip_g.hidden_size;
    let transformer = part(&files.transformer, settings.dtype);
    let core = Core {
        transformer: Mmdit::load(&transformer, &sizes.transformer, pooled)?,
        decoder: Decoder::load(
            &part(&files.autoencoder, DType::F32),
            &sizes.decoder,
            sizes.latent,
        )?,
        channels: sizes.decoder.z_channels,
        colours: files.described.colours,
        dtype: settings.dtype,
        device: device.clone(),
    };
    files.transformer.refuse_unread(&[])?;
    files.autoencoder.refuse_unread(&ignored::AUTOENCODER)?;
    Ok((encoders, core))
}

/// Refuses files that would be refused while they load, without reading their values.
///
/// # Errors
/// As [`Sd3::load`].
pub fn check_files(files: &Sd3Files) -> Result<(), Fault> {
    let settings = Settings::default();
    parts(files, Depth::Headers, &Device::Cpu, settings, &mut |_| {})?;
    Sd3Tokens::load(files).map(|_| ())
}

/// `without + guidance * (with - without)` of (2, c, h, w); of (1, c, h, w) itself.
fn guided(velocities: &Tensor, guidance: Option<f64>) -> Result<Tensor, Fault> {
    let Some(guidance) = guidance else {
        return Ok(velocities.clone());
    };
    let (without, with) = (velocities.narrow(0, 0, 1)?, velocities.narrow(0, 1, 1)?);
    let lead = ((with - &without)? * guidance)?;
    Ok((without + lead)?)
}

impl Painter for Core {
    type By = Guided;

    fn velocity(&self, latents: &Tensor, sigma: f32, by: &Guided) -> Result<Tensor, Fault> {
        let time = sigmas::record(sigma);
        let velocities = self.transformer.forward(latents, time, &by.conditioning)?;
        guided(&velocities, by.guidance)
    }

    fn picture(&self, latents: &Tensor) -> Result<Tensor, Fault> {
        let picture = self.decoder.forward(latents)?;
        finite(&picture, || "autoencoder".to_owned())?;
        Ok(picture)
    }

    fn colours(&self) -> Option<&Colours> {
        self.colours.as_ref()
    }
}

/// What this family cannot do is refused and never ignored.
fn check(job: &JobParameters) -> Result<(), Fault> {
    drawing::check(job)?;
    let refuse = |field, sentence: String| Err(Fault::BadRequest { field, sentence });
    if !(0.0..=MAX_GUIDANCE).contains(&job.guidance) {
        return refuse("guidance", format!("is between 0 and {MAX_GUIDANCE}"));
    }
    if job.negative.is_some() && job.guidance <= 1.0 {
        let sentence = "does nothing without guidance: set guidance above 1".to_owned();
        return refuse("negative", sentence);
    }
    Ok(())
}

impl Pipeline for Sd3 {
    fn start<'a>(
        &'a mut self,
        job: &JobParameters,
        from: Option<Checkpoint>,
    ) -> Result<Box<dyn Denoising + 'a>, Fault> {
        check(job)?;
        let start = drawing::begin(job, from, self.core.channels, &self.core.device)?;
        let (prompt, mut reading) = self.encode(&job.prompt)?;
        let by = if job.guidance > 1.0 {
            let (negative, of_negative) = self.encode(job.negative.as_deref().unwrap_or(""))?;
            reading.was_cut |= of_negative.was_cut;
            self.condition(&prompt, Some((&negative, job.guidance)))?
        } else {
            self.condition(&prompt, None)?
        };
        let levels = sigmas::shifted_twice(job.steps);
        Ok(Box::new(Drawing::new(
            &self.core, by, levels, start, job, reading,
        )))
    }

    fn latents_bytes(&self, width: u32, height: u32) -> usize {
        drawing::latents_bytes(self.core.channels, width, height)
    }
}
