//! FLUX.1: two text encoders, a transformer over packed latents, an autoencoder.
//!
//! The parts are public one by one, so that each can be compared with a reference on the reference's own
//! input; [`Flux`] as a [`Pipeline`] only puts them in a row.

pub mod block;
pub mod encoders;
pub mod files;
pub mod rope;
pub mod transformer;

use crate::fault::Fault;
pub use crate::pipelines::drawing::SIZE_MULTIPLE;
use crate::pipelines::drawing::{self, Drawing, Painter};
pub use crate::pipelines::encoders::Encoded;
use crate::pipelines::encoders::{Bench, Encoders, home};
use crate::pipelines::families::flux::files::FluxFiles;
use crate::pipelines::folder::lexicon::Lexicon;
use crate::pipelines::parts::autoencoder::Decoder;
pub use crate::pipelines::parts::autoencoder::PIXELS_PER_LATENT;
use crate::pipelines::parts::ignored;
use crate::pipelines::parts::layers::finite;
use crate::pipelines::parts::sizes::FluxModelSizes;
use crate::pipelines::pipeline::{Checkpoint, Denoising, JobParameters, Pipeline, Settings};
use crate::pipelines::preview::Colours;
use crate::sampling::packing::{self, PATCH};
use crate::sampling::sigmas;
use crate::weights::{Depth, Meter, Section};
use candle_core::{DType, Device, Tensor};
use encoders::{FluxEncoders, FluxTokens, PromptIds};
use ipc_protocol::reading::Reading;
use transformer::{Conditioning, Transformer};

/// A loaded FLUX model.
pub struct Flux {
    tokens: FluxTokens,
    sizes: FluxModelSizes,
    lexicon: Lexicon,
    encoders: Bench<FluxEncoders>,
    files: Option<FluxFiles>, // kept where the encoders are not
    core: Core,
}

/// What draws once a prompt is encoded.
struct Core {
    transformer: Transformer,
    decoder: Decoder,
    channels: usize,
    colours: Option<Colours>,
    dtype: DType,
    device: Device,
}

impl Flux {
    /// Loads all parts; encoders and transformer compute in the settings' dtype, the autoencoder in f32.
    ///
    /// # Errors
    /// [`Fault::Configuration`] for a tensor that is absent, left over or of another shape; the device's faults.
    pub fn load(
        files: FluxFiles,
        device: &Device,
        settings: Settings,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Flux, Fault> {
        let (encoders, core) = parts(&files, Depth::Values, device, settings, progress)?;
        Ok(Flux {
            tokens: FluxTokens::load(&files)?,
            sizes: files.described.sizes.clone(),
            lexicon: files.described.lexicon.clone(),
            files: (settings.encoders == Encoders::Drop).then_some(files),
            encoders,
            core,
        })
    }

    /// Sizes of all parts.
    pub fn sizes(&self) -> &FluxModelSizes {
        &self.sizes
    }

    /// The device that this model computes on.
    pub fn device(&self) -> &Device {
        &self.core.device
    }

    /// The encoders and how often they ran.
    pub fn encoders(&self) -> &Bench<FluxEncoders> {
        &self.encoders
    }

    /// Tokenizes a prompt; `t5_length` overrides the model's number of T5 tokens.
    ///
    /// # Errors
    /// [`Fault::BadRequest`] for text that a tokenizer refuses.
    pub fn ids(&self, prompt: &str, t5_length: Option<usize>) -> Result<PromptIds, Fault> {
        self.tokens.ids(prompt, t5_length)
    }

    /// Runs both encoders, which must be held.
    ///
    /// # Errors
    /// [`Fault::NotFinite`] when one overflows; the device's faults.
    pub fn encode(&self, t5_ids: &[u32], clip_ids: &[u32]) -> Result<Encoded, Fault> {
        self.encoders.held()?.encode(t5_ids, clip_ids)
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
        let transformer = &self.core.transformer;
        transformer.condition(&by.text, &by.pooled, &positions)
    }

    /// Velocity of packed latents (1, s, 64) at noise level `sigma`, f32.
    ///
    /// # Errors
    /// The device's faults.
    pub fn predict(&self, tokens: &Tensor, sigma: f32, by: &Conditioning) -> Result<Tensor, Fault> {
        self.core.predict(tokens, sigma, by)
    }

    /// Latents (1, 16, h/8, w/8) to a picture (1, 3, h, w) in about -1..1.
    ///
    /// # Errors
    /// [`Fault::NotFinite`] when the autoencoder overflows; the device's faults.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor, Fault> {
        self.core.picture(latents)
    }

    /// The transformer, for a test that spoils what it is told.
    #[cfg(test)]
    pub(crate) fn transformer(&self) -> &Transformer {
        &self.core.transformer
    }

    /// Encodes a prompt and says what became of its words.
    fn encode_prompt(&mut self, prompt: &str) -> Result<(Encoded, Reading), Fault> {
        let ids = self.tokens.ids(prompt, None)?;
        let device = home(self.encoders.place(), &self.core.device);
        let (files, dtype) = (&self.files, self.core.dtype);
        let load = || {
            let absent = || Fault::Compute("the encoders' files are not kept".to_owned());
            let files = files.as_ref().ok_or_else(absent)?;
            let mut untold = |_| {};
            let meter = Meter::new(&files.weights(), &mut untold);
            FluxEncoders::load(files, &meter, dtype, &device)
        };
        let run = |encoders: &FluxEncoders| encoders.encode(&ids.t5.ids, &ids.clip.ids);
        let encoded = self.encoders.encode(prompt, &self.core.device, load, run)?;
        Ok((encoded, self.lexicon.reading(&ids.t5)))
    }
}

/// Everything that has weights.
fn parts(
    files: &FluxFiles,
    depth: Depth,
    device: &Device,
    settings: Settings,
    progress: &mut dyn FnMut(f32),
) -> Result<(Bench<FluxEncoders>, Core), Fault> {
    let sizes = &files.described.sizes;
    let meter = Meter::new(&files.weights(), progress).to(depth);
    let part = |weights, dtype| Section::new(weights, &meter, dtype, device);
    let place = home(settings.encoders, device);
    // Encoders first: where they are dropped again, what follows finds their memory free.
    let encoders = FluxEncoders::load(files, &meter, settings.dtype, &place)?;
    let encoders = Bench::new(encoders, settings.encoders);
    let transformer = part(&files.transformer, settings.dtype);
    let core = Core {
        transformer: Transformer::load(&transformer, &sizes.transformer)?,
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
/// As [`Flux::load`].
pub fn check_files(files: &FluxFiles) -> Result<(), Fault> {
    let settings = Settings::default();
    parts(files, Depth::Headers, &Device::Cpu, settings, &mut |_| {})?;
    FluxTokens::load(files).map(|_| ())
}

impl Core {
    fn predict(&self, tokens: &Tensor, sigma: f32, by: &Conditioning) -> Result<Tensor, Fault> {
        self.transformer
            .forward(tokens, sigmas::timestep(sigma), by)
    }
}

impl Painter for Core {
    type By = Conditioning;

    fn velocity(&self, latents: &Tensor, sigma: f32, by: &Conditioning) -> Result<Tensor, Fault> {
        let (_, _, rows, columns) = latents.dims4()?;
        let tokens = self.predict(&packing::pack(latents)?, sigma, by)?;
        packing::unpack(&tokens, rows, columns)
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
    let refuse = |field, sentence: &str| {
        let sentence = sentence.to_owned();
        Err(Fault::BadRequest { field, sentence })
    };
    if job.guidance > 1.0 {
        let sentence = "this model was trained to draw without: leave it at 0";
        return refuse("guidance", sentence);
    }
    if job.negative.is_some() {
        return refuse("negative", "this model has no guidance that could use one");
    }
    Ok(())
}

impl Pipeline for Flux {
    fn start<'a>(
        &'a mut self,
        job: &JobParameters,
        from: Option<Checkpoint>,
    ) -> Result<Box<dyn Denoising + 'a>, Fault> {
        check(job)?;
        let start = drawing::begin(job, from, self.core.channels, &self.core.device)?;
        let (prompt, reading) = self.encode_prompt(&job.prompt)?;
        let by = self.condition(&prompt, job.height as usize, job.width as usize)?;
        let levels = sigmas::even(job.steps);
        Ok(Box::new(Drawing::new(
            &self.core, by, levels, start, job, reading,
        )))
    }

    fn latents_bytes(&self, width: u32, height: u32) -> usize {
        drawing::latents_bytes(self.core.channels, width, height)
    }
}
