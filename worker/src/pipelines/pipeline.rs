//! The traits of a loaded model and of one job that it draws.

use crate::fault::WorkerFault;
use crate::pipelines::encoders::Encoders;
use crate::pipelines::precision;
use candle_core::DType;
use ipc_protocol::arithmetic::{Arithmetic, Decoding};
use ipc_protocol::ids::Device;
use ipc_protocol::reading::Reading;
use ipc_protocol::units::PictureSize;

/// The parameters of one job. The supervisor has checked them against the model's limits.
#[derive(Debug, Clone, PartialEq)]
pub struct JobParameters {
    /// The prompt.
    pub prompt: String,
    /// The negative prompt; only families with guidance accept one.
    pub negative: Option<String>,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Number of denoising steps, at least 1.
    pub steps: u32,
    /// Scale of classifier-free guidance; at most 1 means none.
    pub guidance: f32,
    /// Seed of the initial noise. The same seed, size and model give the same picture.
    pub seed: u64,
}

impl JobParameters {
    /// Width and height in pixels.
    pub fn size(&self) -> PictureSize {
        PictureSize {
            width: self.width,
            height: self.height,
        }
    }
}

/// The latents after a finished step, from which another worker can resume, bit for bit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatentCheckpoint {
    /// Number of finished steps.
    pub steps_done: u32,
    /// f32 values, little endian, [`Pipeline::latents_bytes`] bytes.
    pub bytes: Vec<u8>,
}

/// An RGB picture with 8 bits per channel, in rows of `width * 3` bytes from the top.
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
    /// Encodes the prompt, and makes the initial noise or resumes from a checkpoint.
    ///
    /// # Errors
    /// [`WorkerFault::BadRequest`] for parameters that the family does not support and for a checkpoint of another
    /// size; [`WorkerFault::NotFinite`] if an encoder overflows; faults of the device.
    fn start<'a>(
        &'a mut self,
        job: &JobParameters,
        from: Option<LatentCheckpoint>,
    ) -> Result<Box<dyn Denoising + 'a>, WorkerFault>;

    /// Bytes of the latents of a `width` x `height` picture, the size of a checkpoint.
    fn latents_bytes(&self, width: u32, height: u32) -> usize;
}

/// One job between its initial noise and its picture.
pub trait Denoising {
    /// Number of finished steps, including those of the checkpoint.
    fn steps_done(&self) -> u32;

    /// Runs one step. `cancel` is checked wherever a step can stop early.
    ///
    /// # Errors
    /// [`WorkerFault::Cancelled`]; [`WorkerFault::NotFinite`]; faults of the device.
    fn step(&mut self, cancel: &dyn Fn() -> bool) -> Result<(), WorkerFault>;

    /// The latents after the last finished step, f32 little endian.
    ///
    /// # Errors
    /// Faults of the device while they are copied.
    fn latents(&self) -> Result<Vec<u8>, WorkerFault>;

    /// The model's reading of the prompt.
    fn reading(&self) -> Reading {
        Reading::default()
    }

    /// A cheap approximation of the picture; `None` if the family has none.
    ///
    /// # Errors
    /// Faults of the device.
    fn preview(&self) -> Result<Option<Rgb8>, WorkerFault>;

    /// Decodes the latents to the picture.
    ///
    /// # Errors
    /// [`WorkerFault::NotFinite`] if the autoencoder overflows; faults of the device.
    fn decode(self: Box<Self>) -> Result<Rgb8, WorkerFault>;
}

/// The dtype of a model, the placement of its text encoders, and the way of decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComputeSettings {
    /// Dtype of encoders and transformer: f32, bf16 or f16.
    pub dtype: DType,
    /// Placement of the text encoders between two prompts.
    pub encoders: Encoders,
    /// The way of decoding pictures.
    pub decoding: Decoding,
}

impl Default for ComputeSettings {
    fn default() -> ComputeSettings {
        ComputeSettings {
            dtype: DType::F32,
            encoders: Encoders::Keep,
            decoding: Decoding::Whole,
        }
    }
}

impl ComputeSettings {
    /// The settings of a worker on `device`, from the requested arithmetic, with pictures decoded at once.
    pub fn on(device: Device, wished: Arithmetic) -> ComputeSettings {
        ComputeSettings {
            dtype: precision::of_tensors(precision::chosen(wished.dtype, device).dtype),
            encoders: wished.encoders,
            decoding: Decoding::Whole,
        }
    }
}

/// The values of a checkpoint, after checking that its step and size fit this job.
///
/// # Errors
/// [`WorkerFault::BadRequest`] if they do not: the checkpoint comes from shared memory and is not trusted.
pub(super) fn checkpoint_values(
    from: &LatentCheckpoint,
    job: &JobParameters,
    count: usize,
) -> Result<Vec<f32>, WorkerFault> {
    let refuse = |sentence| {
        Err(WorkerFault::BadRequest {
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
        return Err(WorkerFault::NotFinite {
            stage: "checkpoint".to_owned(),
        });
    }
    Ok(values)
}
