//! From a prompt to a picture, one family of models each.
//!
//! ```text
//!   JobParameters ─▶ Pipeline::start ─▶ Denoising ──step──▶ … ──step──▶ decode ─▶ Rgb8
//!                      ▲ Checkpoint        │ latents() after each step
//!                      └───────────────────┘ (another worker goes on from them, bit for bit)
//! ```
//!
//! A pipeline owns weights and no job; a [`Denoising`] owns one job's latents. Whoever drives it owns
//! the loop, and with it progress, cancelling between steps and publishing the latents.

pub mod activation;
pub mod autoencoder;
pub mod clip;
pub mod configuration;
pub mod diffusers;
pub mod drawing;
pub mod embedding;
pub mod encoders;
pub mod flux;
pub mod folder;
pub mod heads;
pub mod ignored;
pub mod layers;
pub mod lexicon;
pub mod modulation;
pub mod need;
pub mod norms;
pub mod pocket;
pub mod precision;
mod preset;
pub mod preview;
pub mod published;
pub mod rights;
pub mod schedule;
pub mod sd3;
pub mod shapes;
pub mod shelf;
pub mod sizes;
pub mod stamp;
pub mod synthetic;
pub mod t5;
pub mod tokens;
pub mod vocabulary;

use crate::device;
use crate::fault::Fault;
use candle_core::DType;
use encoders::Encoders;
use ipc_protocol::arithmetic::Arithmetic;
use ipc_protocol::ids::Device;
use ipc_protocol::reading::Reading;
use pocket::Pocket;
use sd3::files::Sd3Files;
use stamp::Stamp;
use std::path::PathBuf;

/// What one job asks of a pipeline; already checked by the supervisor against the model's limits.
#[derive(Debug, Clone, PartialEq)]
pub struct JobParameters {
    /// What to draw.
    pub prompt: String,
    /// What not to draw; only families with guidance accept one.
    pub negative: Option<String>,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Number of denoising steps, at least 1.
    pub steps: u32,
    /// Classifier-free guidance; at most 1 means none.
    pub guidance: f32,
    /// Seed of the initial noise: the same seed, size and model give the same picture.
    pub seed: u64,
}

/// Latents after a finished step, as bytes that another worker can go on from, bit for bit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Steps that these latents have behind them.
    pub steps_done: u32,
    /// f32 values, little endian, [`Pipeline::latents_bytes`] of them.
    pub bytes: Vec<u8>,
}

/// An RGB picture, 8 bits a channel, rows of `width * 3` bytes from the top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rgb8 {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// `width * height * 3` bytes.
    pub bytes: Vec<u8>,
}

/// A loaded model.
pub trait Pipeline: Send {
    /// Encodes the prompt and draws the initial noise, or takes up a checkpoint.
    ///
    /// # Errors
    /// [`Fault::BadRequest`] for what the family cannot do and for a checkpoint of another size;
    /// [`Fault::NotFinite`] when an encoder overflows; the device's faults.
    fn start<'a>(
        &'a mut self,
        job: &JobParameters,
        from: Option<Checkpoint>,
    ) -> Result<Box<dyn Denoising + 'a>, Fault>;

    /// Bytes of the latents of a `width` x `height` picture: the size of a checkpoint.
    fn latents_bytes(&self, width: u32, height: u32) -> usize;
}

/// One job between its first noise and its picture.
pub trait Denoising {
    /// Steps finished so far, those of the checkpoint included.
    fn steps_done(&self) -> u32;

    /// Runs one step. `cancel` is asked where a step can stop early.
    ///
    /// # Errors
    /// [`Fault::Cancelled`], [`Fault::NotFinite`], the device's faults.
    fn step(&mut self, cancel: &dyn Fn() -> bool) -> Result<(), Fault>;

    /// The latents after the last finished step: f32 little endian.
    ///
    /// # Errors
    /// The device's faults, when they are copied from it.
    fn latents(&self) -> Result<Vec<u8>, Fault>;

    /// What the model made of the prompt; all of it, where the family has no words.
    fn reading(&self) -> Reading {
        Reading::default()
    }

    /// A cheap picture of what the latents are becoming; `None` when the family has none.
    ///
    /// # Errors
    /// The device's faults.
    fn preview(&self) -> Result<Option<Rgb8>, Fault>;

    /// Turns the latents into the picture.
    ///
    /// # Errors
    /// [`Fault::NotFinite`] when the autoencoder overflows, the device's faults.
    fn decode(self: Box<Self>) -> Result<Rgb8, Fault>;
}

/// A kind of model: one pipeline in code, many sets of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Black Forest Labs' FLUX.1 (schnell).
    Flux,
    /// Stability AI's Stable Diffusion 3.5 (Large Turbo).
    Sd35,
    /// A pattern from the seed, without weights.
    Synthetic,
}

impl Family {
    /// The family of that name, as settings and the wire spell it.
    ///
    /// # Errors
    /// [`Fault::Configuration`] for any other word.
    pub fn named(word: &str) -> Result<Family, Fault> {
        match word {
            "flux" => Ok(Family::Flux),
            "sd3" => Ok(Family::Sd35),
            "synthetic" => Ok(Family::Synthetic),
            _ => Err(Fault::configuration(
                word,
                "family",
                "is not one of flux, sd3, synthetic",
            )),
        }
    }
}

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// Inside this program.
    Embedded(Pocket),
    /// A folder of weight files, told apart by looking.
    Folder {
        /// The folder.
        path: PathBuf,
        /// The family, where the setting names one.
        family: Option<Family>,
    },
    /// No weights: times and memory as told.
    Synthetic {
        /// Milliseconds of a step.
        step_ms: u32,
        /// Milliseconds of loading.
        load_ms: u32,
        /// MiB of memory really touched.
        weights_mb: u32,
    },
}

/// How a model computes, and where its encoders live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// What encoders and transformer compute in: f32, bf16 or f16.
    pub dtype: DType,
    /// What becomes of the encoders between two prompts.
    pub encoders: Encoders,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            dtype: DType::F32,
            encoders: Encoders::Keep,
        }
    }
}

impl Settings {
    /// What a worker on `device` makes of a section's words.
    pub fn on(device: Device, wished: Arithmetic) -> Settings {
        Settings {
            dtype: precision::of_tensors(precision::chosen(wished.dtype, device).dtype),
            encoders: wished.encoders,
        }
    }
}

/// Loads a model with the default settings. `progress` hears fractions from 0 to 1.
///
/// # Errors
/// As [`load_with`].
pub fn load(
    source: &ModelSource,
    device: Device,
    progress: &mut dyn FnMut(f32),
) -> Result<Box<dyn Pipeline>, Fault> {
    load_with(source, device, Settings::default(), progress)
}

/// Loads a model. `progress` hears fractions from 0 to 1.
///
/// # Errors
/// Missing or corrupt files, a configuration that disagrees with the tensors, exhausted memory.
pub fn load_with(
    source: &ModelSource,
    device: Device,
    settings: Settings,
    progress: &mut dyn FnMut(f32),
) -> Result<Box<dyn Pipeline>, Fault> {
    load_known(source, "", device, settings, progress)
}

/// Loads a model whose files were looked at before, when they were `known` (empty: not looked at).
///
/// # Errors
/// As [`load_with`], and [`Fault::WeightsCorrupt`] for files that have changed since or change meanwhile.
pub fn load_known(
    source: &ModelSource,
    known: &str,
    device: Device,
    settings: Settings,
    progress: &mut dyn FnMut(f32),
) -> Result<Box<dyn Pipeline>, Fault> {
    let loaded: Box<dyn Pipeline> = match source {
        ModelSource::Embedded(model) => {
            model.verify()?;
            match model {
                Pocket::Flux => flux_model(pocket::flux()?, device, settings, progress)?,
                Pocket::Sd3 => sd3_model(pocket::sd3()?, device, settings, progress)?,
            }
        }
        ModelSource::Folder { path, family } => {
            let (loaded, stamp) = match folder::family(path, *family)? {
                Family::Flux => {
                    let files = folder::flux(path)?;
                    let stamp = Stamp::of_folder(&shelf::folder_of(path), &files.weights());
                    stamp.expect(path, known)?;
                    (flux_model(files, device, settings, progress)?, stamp)
                }
                Family::Sd35 => {
                    let files = Sd3Files::open(path)?;
                    let stamp = Stamp::of_folder(&shelf::folder_of(path), &files.weights());
                    stamp.expect(path, known)?;
                    (sd3_model(files, device, settings, progress)?, stamp)
                }
                Family::Synthetic => {
                    let file = path.display().to_string();
                    let what = "has no weights, so a folder cannot hold one";
                    return Err(Fault::configuration(file, "synthetic", what));
                }
            };
            stamp.expect_unchanged()?;
            loaded
        }
        ModelSource::Synthetic {
            step_ms,
            load_ms,
            weights_mb,
        } => Box::new(synthetic::Synthetic::load(
            *step_ms,
            *load_ms,
            *weights_mb,
            progress,
        )),
    };
    progress(1.0);
    Ok(loaded)
}

fn flux_model(
    files: folder::FluxFiles,
    device: Device,
    settings: Settings,
    progress: &mut dyn FnMut(f32),
) -> Result<Box<dyn Pipeline>, Fault> {
    let device = device::open(device)?;
    let flux = flux::Flux::load(files, &device, settings, progress);
    Ok(Box::new(flux.map_err(Fault::while_loading)?))
}

fn sd3_model(
    files: Sd3Files,
    device: Device,
    settings: Settings,
    progress: &mut dyn FnMut(f32),
) -> Result<Box<dyn Pipeline>, Fault> {
    let device = device::open(device)?;
    let sd3 = sd3::Sd3::load(files, &device, settings, progress);
    Ok(Box::new(sd3.map_err(Fault::while_loading)?))
}

/// The values of a checkpoint, if it is one of this job: not beyond its steps, and of its size.
///
/// # Errors
/// [`Fault::BadRequest`] otherwise: it came through shared memory and is not trusted.
fn checkpoint_values(
    from: &Checkpoint,
    job: &JobParameters,
    count: usize,
) -> Result<Vec<f32>, Fault> {
    let refuse = |sentence| {
        Err(Fault::BadRequest {
            field: "checkpoint",
            sentence,
        })
    };
    if from.steps_done > job.steps {
        return refuse(format!(
            "{} steps of {} are done",
            from.steps_done, job.steps
        ));
    }
    if from.bytes.len() != count * size_of::<f32>() {
        return refuse(format!(
            "{} bytes instead of {}",
            from.bytes.len(),
            count * 4
        ));
    }
    let (words, _) = from.bytes.as_chunks::<4>();
    let values: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
    if values.iter().any(|value| !value.is_finite()) {
        return Err(Fault::NotFinite {
            stage: "checkpoint".to_owned(),
        });
    }
    Ok(values)
}
