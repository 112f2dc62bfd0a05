//! A loaded model of any family with a transformer, text encoders and a decoder.
//!
//! Its parts are public one by one, so that each can be compared with a reference on the reference's own input;
//! [`LoadedModel`] as a [`Pipeline`] puts them in a row.

use crate::fault::WorkerFault;
use crate::pipelines::architecture::Architecture;
use crate::pipelines::drawing::{self, Denoised, Predictor};
use crate::pipelines::encoders::{Encoded, EncoderHold, Encoders, home};
use crate::pipelines::files::ModelFiles;
use crate::pipelines::folder::lexicon::Lexicon;
use crate::pipelines::parts::autoencoder::Decoder;
use crate::pipelines::parts::ignored;
use crate::pipelines::parts::layers::finite;
use crate::pipelines::parts::sizes::ModelSizes;
use crate::pipelines::pipeline::{
    ComputeSettings, Denoising, JobParameters, LatentCheckpoint, Pipeline,
};
use crate::pipelines::preview::Colours;
use crate::pipelines::text::{EncoderIds, PromptTokenizers, TextEncoders};
use crate::weights::{LoadDepth, Meter, Section};
use candle_core::{DType, Device, Tensor};
use ipc_protocol::latents::LatentShape;
use ipc_protocol::reading::Reading;
use ipc_protocol::units::PictureSize;

/// A loaded model.
pub struct LoadedModel<A: Architecture> {
    tokenizers: PromptTokenizers,
    sizes: ModelSizes<A::Sizes>,
    lexicon: Lexicon,
    encoders: EncoderHold<TextEncoders>,
    files: Option<ModelFiles<A>>, // kept where the encoders are not
    core: DrawingCore<A>,
}

/// What draws once a prompt is encoded.
struct DrawingCore<A: Architecture> {
    transformer: A::Transformer,
    decoder: Decoder,
    latents: LatentShape,
    colours: Option<Colours>,
    dtype: DType,
    device: Device,
}

impl<A: Architecture> LoadedModel<A> {
    /// Loads all parts; encoders and transformer compute in the settings' dtype, the autoencoder in f32.
    ///
    /// # Errors
    /// [`WorkerFault::Configuration`] for a tensor that is absent, left over or of another shape; the device's faults.
    pub fn load(
        files: ModelFiles<A>,
        device: &Device,
        settings: ComputeSettings,
        progress: &mut dyn FnMut(f32),
    ) -> Result<LoadedModel<A>, WorkerFault> {
        let (encoders, core) = parts(&files, LoadDepth::Values, device, settings, progress)?;
        let described = &files.described;
        Ok(LoadedModel {
            tokenizers: PromptTokenizers::load(&files.tokenizers, &described.sizes.encoders)?,
            sizes: described.sizes.clone(),
            lexicon: described.lexicon.clone(),
            files: (settings.encoders == Encoders::Drop).then_some(files),
            encoders,
            core,
        })
    }

    /// Sizes of all parts.
    pub fn sizes(&self) -> &ModelSizes<A::Sizes> {
        &self.sizes
    }

    /// The tokenizers.
    pub fn tokenizers(&self) -> &PromptTokenizers {
        &self.tokenizers
    }

    /// The encoders and how often they ran.
    pub fn encoders(&self) -> &EncoderHold<TextEncoders> {
        &self.encoders
    }

    /// The device that this model computes on.
    pub fn device(&self) -> &Device {
        &self.core.device
    }

    /// Runs the encoders, which must be held.
    ///
    /// # Errors
    /// [`WorkerFault::NotFinite`] when one overflows; the device's faults.
    pub fn encode(&self, ids: EncoderIds) -> Result<Encoded, WorkerFault> {
        A::encode(self.encoders.held()?, ids)
    }

    /// Prepares the transformer for a picture of `size`; as [`Architecture::condition`].
    ///
    /// # Errors
    /// The device's faults.
    pub fn condition(
        &self,
        prompt: &Encoded,
        away: Option<(&Encoded, f32)>,
        size: PictureSize,
    ) -> Result<A::Conditioning, WorkerFault> {
        let plane = self.core.latents.plane(size);
        let plane = (plane.height as usize, plane.width as usize);
        A::condition(&self.core.transformer, prompt, away, plane)
    }

    /// Velocities of latents (1, c, h, w) at noise level `sigma`; as [`Architecture::velocities`].
    ///
    /// # Errors
    /// The device's faults.
    pub fn predict(
        &self,
        latents: &Tensor,
        sigma: f32,
        by: &A::Conditioning,
    ) -> Result<Tensor, WorkerFault> {
        A::velocities(&self.core.transformer, latents, sigma, by)
    }

    /// Latents (1, c, h, w) to a picture (1, 3, H, W) in about -1..1.
    ///
    /// # Errors
    /// [`WorkerFault::NotFinite`] when the autoencoder overflows; the device's faults.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor, WorkerFault> {
        self.core.picture(latents)
    }

    /// Encodes a prompt and says what became of its words.
    fn encode_prompt(&mut self, prompt: &str) -> Result<(Encoded, Reading), WorkerFault> {
        let ids = self.tokenizers.ids(prompt, None)?;
        let device = home(self.encoders.residence(), &self.core.device);
        let (files, dtype) = (&self.files, self.core.dtype);
        let load = || {
            let absent = || WorkerFault::Compute("the encoders' files are not kept".to_owned());
            let files = files.as_ref().ok_or_else(absent)?;
            let mut untold = |_| {};
            let meter = Meter::new(&files.weights(), &mut untold);
            let sizes = &files.described.sizes.encoders;
            TextEncoders::load(&files.encoders, sizes, &meter, dtype, &device)
        };
        let run = |encoders: &TextEncoders| A::encode(encoders, ids.for_encoders());
        let encoded = self.encoders.encode(prompt, &self.core.device, load, run)?;
        Ok((encoded, self.lexicon.reading(&ids.t5)))
    }

    /// The transformer, for a test that spoils what it is told.
    #[cfg(test)]
    pub(crate) fn transformer(&self) -> &A::Transformer {
        &self.core.transformer
    }

    /// The transformer, for a test that spoils it.
    #[cfg(test)]
    pub(crate) fn transformer_mut(&mut self) -> &mut A::Transformer {
        &mut self.core.transformer
    }

    /// The encoders, for a test that spoils them.
    #[cfg(test)]
    pub(crate) fn encoders_mut(&mut self) -> Option<&mut TextEncoders> {
        self.encoders.held_mut()
    }
}

/// Everything that has weights.
fn parts<A: Architecture>(
    files: &ModelFiles<A>,
    depth: LoadDepth,
    device: &Device,
    settings: ComputeSettings,
    progress: &mut dyn FnMut(f32),
) -> Result<(EncoderHold<TextEncoders>, DrawingCore<A>), WorkerFault> {
    let sizes = &files.described.sizes;
    let meter = Meter::new(&files.weights(), progress).to(depth);
    let part = |weights, dtype| Section::new(weights, &meter, dtype, device);
    let place = home(settings.encoders, device);
    // Encoders first: where they are dropped again, what follows finds their memory free.
    let encoders = &files.encoders;
    let encoders = TextEncoders::load(encoders, &sizes.encoders, &meter, settings.dtype, &place)?;
    let encoders = EncoderHold::new(encoders, settings.encoders);
    let autoencoder = part(&files.autoencoder, DType::F32);
    let core = DrawingCore {
        transformer: A::load(&part(&files.transformer, settings.dtype), sizes)?,
        decoder: Decoder::load(&autoencoder, &sizes.decoder, sizes.latent)?,
        latents: sizes.decoder.latent_shape(),
        colours: files.described.colours.clone(),
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
/// As [`LoadedModel::load`].
pub fn check_files<A: Architecture>(files: &ModelFiles<A>) -> Result<(), WorkerFault> {
    let settings = ComputeSettings::default();
    parts(
        files,
        LoadDepth::Headers,
        &Device::Cpu,
        settings,
        &mut |_| {},
    )?;
    let sizes = &files.described.sizes.encoders;
    PromptTokenizers::load(&files.tokenizers, sizes).map(drop)
}

impl<A: Architecture> Predictor for DrawingCore<A> {
    type Conditioning = A::Conditioning;

    fn velocity(
        &self,
        latents: &Tensor,
        sigma: f32,
        by: &A::Conditioning,
    ) -> Result<Tensor, WorkerFault> {
        let velocities = A::velocities(&self.transformer, latents, sigma, by)?;
        A::guide(&velocities, by)
    }

    fn picture(&self, latents: &Tensor) -> Result<Tensor, WorkerFault> {
        let picture = self.decoder.forward(latents)?;
        finite(&picture, || "autoencoder".to_owned())?;
        Ok(picture)
    }

    fn colours(&self) -> Option<&Colours> {
        self.colours.as_ref()
    }

    fn latents(&self) -> LatentShape {
        self.latents
    }
}

impl<A: Architecture> Pipeline for LoadedModel<A> {
    fn start<'a>(
        &'a mut self,
        job: &JobParameters,
        from: Option<LatentCheckpoint>,
    ) -> Result<Box<dyn Denoising + 'a>, WorkerFault> {
        drawing::check(job, self.core.latents)?;
        A::check(job)?;
        let start = drawing::begin(job, from, self.core.latents, &self.core.device)?;
        let (prompt, mut reading) = self.encode_prompt(&job.prompt)?;
        let negative = if job.guidance > 1.0 {
            let negative = job.negative.as_deref().unwrap_or("");
            let (negative, of_negative) = self.encode_prompt(negative)?;
            reading.was_cut |= of_negative.was_cut;
            Some(negative)
        } else {
            None
        };
        let away = negative.as_ref().map(|negative| (negative, job.guidance));
        let by = self.condition(&prompt, away, job.size())?;
        let levels = A::sigmas(job.steps);
        Ok(Box::new(Denoised::new(
            &self.core, by, levels, start, job, reading,
        )))
    }

    fn latents_bytes(&self, width: u32, height: u32) -> usize {
        self.core.latents.bytes(PictureSize { width, height }) as usize
    }
}
