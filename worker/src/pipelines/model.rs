//! A loaded model of any family that has a transformer, text encoders and a decoder.
//!
//! Each part is public, so that it can be compared with the reference on the reference's own input.
//! [`LoadedModel`] implements [`Pipeline`] by running these parts in order.

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
use crate::pipelines::parts::tiling::{self, TILE};
use crate::pipelines::pipeline::{
    ComputeSettings, Denoising, JobParameters, LatentCheckpoint, Pipeline,
};
use crate::pipelines::preview::Colours;
use crate::pipelines::text::{EncoderIds, PromptTokenizers, TextEncoders};
use crate::weights::{LoadDepth, Meter, Section};
use candle_core::{DType, Device, Tensor};
use ipc_protocol::arithmetic::Decoding;
use ipc_protocol::latents::LatentShape;
use ipc_protocol::reading::Reading;
use ipc_protocol::units::PictureSize;

/// A loaded model.
pub struct LoadedModel<A: Architecture> {
    tokenizers: PromptTokenizers,
    sizes: ModelSizes<A::Sizes>,
    lexicon: Lexicon,
    encoders: EncoderHold<TextEncoders>,
    files: Option<ModelFiles<A>>, // kept only if the encoders are dropped
    core: DrawingCore<A>,
}

/// The parts that draw after the prompt is encoded.
struct DrawingCore<A: Architecture> {
    transformer: A::Transformer,
    decoder: Decoder,
    latents: LatentShape,
    colours: Option<Colours>,
    decoding: Decoding,
    dtype: DType,
    device: Device,
}

impl<A: Architecture> LoadedModel<A> {
    /// Loads all parts. Encoders and transformer compute in the dtype of the settings, the autoencoder in f32.
    ///
    /// # Errors
    /// [`WorkerFault::Configuration`] for a tensor that is missing, unread or of another shape; faults of the device.
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

    /// The sizes of all parts.
    pub fn sizes(&self) -> &ModelSizes<A::Sizes> {
        &self.sizes
    }

    /// The tokenizers of the encoders.
    pub fn tokenizers(&self) -> &PromptTokenizers {
        &self.tokenizers
    }

    /// The encoders, with a count of their runs.
    pub fn encoders(&self) -> &EncoderHold<TextEncoders> {
        &self.encoders
    }

    /// The device that the model computes on.
    pub fn device(&self) -> &Device {
        &self.core.device
    }

    /// Runs the encoders, which must be in memory.
    ///
    /// # Errors
    /// [`WorkerFault::NotFinite`] if an encoder overflows; faults of the device.
    pub fn encode(&self, ids: EncoderIds) -> Result<Encoded, WorkerFault> {
        A::encode(self.encoders.held()?, ids)
    }

    /// Prepares the conditioning for a picture of `size`; see [`Architecture::condition`].
    ///
    /// # Errors
    /// Faults of the device.
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

    /// Predicts the velocities of latents (1, c, h, w) at noise level `sigma`; see [`Architecture::velocities`].
    ///
    /// # Errors
    /// Faults of the device.
    pub fn predict(
        &self,
        latents: &Tensor,
        sigma: f32,
        by: &A::Conditioning,
    ) -> Result<Tensor, WorkerFault> {
        A::velocities(&self.core.transformer, latents, sigma, by)
    }

    /// Decodes latents (1, c, h, w) to a picture (1, 3, H, W) in about -1..1.
    ///
    /// # Errors
    /// [`WorkerFault::NotFinite`] if the autoencoder overflows; faults of the device.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor, WorkerFault> {
        self.core.picture(latents)
    }

    /// Encodes a prompt. Returns the embeddings and the model's reading.
    fn encode_prompt(&mut self, prompt: &str) -> Result<(Encoded, Reading), WorkerFault> {
        let ids = self.tokenizers.ids(prompt, None)?;
        let device = home(self.encoders.residence(), &self.core.device);
        let (files, dtype) = (&self.files, self.core.dtype);
        let load = || {
            let absent =
                || WorkerFault::Compute("the files of the encoders are not open".to_owned());
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

    /// The transformer, for a test with a wrong input.
    #[cfg(test)]
    pub(crate) fn transformer(&self) -> &A::Transformer {
        &self.core.transformer
    }

    /// The transformer, for a test that damages it.
    #[cfg(test)]
    pub(crate) fn transformer_mut(&mut self) -> &mut A::Transformer {
        &mut self.core.transformer
    }

    /// The encoders, for a test that damages them.
    #[cfg(test)]
    pub(crate) fn encoders_mut(&mut self) -> Option<&mut TextEncoders> {
        self.encoders.held_mut()
    }
}

/// Loads all parts that have weights.
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
    // Encoders are loaded first: if they are dropped again, the other parts can use their memory.
    let encoders = &files.encoders;
    let encoders = TextEncoders::load(encoders, &sizes.encoders, &meter, settings.dtype, &place)?;
    let encoders = EncoderHold::new(encoders, settings.encoders);
    let autoencoder = part(&files.autoencoder, DType::F32);
    let core = DrawingCore {
        transformer: A::load(&part(&files.transformer, settings.dtype), sizes)?,
        decoder: Decoder::load(&autoencoder, &sizes.decoder, sizes.latent)?,
        latents: sizes.decoder.latent_shape(),
        colours: files.described.colours.clone(),
        decoding: settings.decoding,
        dtype: settings.dtype,
        device: device.clone(),
    };
    files.transformer.refuse_unread(&[])?;
    files.autoencoder.refuse_unread(&ignored::AUTOENCODER)?;
    files.transformer.release_loaded(device);
    files.autoencoder.release_loaded(device);
    Ok((encoders, core))
}

/// Finds the faults that loading the files would find, without reading their values.
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
        let (_, _, rows, columns) = latents.dims4()?;
        let is_tiled = self.decoding == Decoding::Tiled && tiling::has_tiles(rows, columns, TILE);
        let picture = if is_tiled {
            let sizes = (TILE, self.latents.downscale as usize);
            tiling::in_tiles(latents, sizes, |tile| self.decoder.forward(tile))?
        } else {
            self.decoder.forward(latents)?
        };
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
            if job.negative.is_some() {
                reading.tokens += of_negative.tokens;
            }
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
