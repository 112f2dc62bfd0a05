//! A loaded model, and one job that it draws.

use crate::fault::WorkerFault;
use crate::pipelines::encoders::Encoders;
use crate::pipelines::precision;
use candle_core::DType;
use ipc_protocol::arithmetic::Arithmetic;
use ipc_protocol::ids::Device;
use ipc_protocol::reading::Reading;
use ipc_protocol::units::PictureSize;

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

impl JobParameters {
    /// Width and height in pixels.
    pub fn size(&self) -> PictureSize {
        PictureSize {
            width: self.width,
            height: self.height,
        }
    }
}

/// Latents after a finished step, as bytes that another worker can go on from, bit for bit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatentCheckpoint {
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
    /// [`WorkerFault::BadRequest`] for what the family cannot do and for a checkpoint of another size;
    /// [`WorkerFault::NotFinite`] when an encoder overflows; the device's faults.
    fn start<'a>(
        &'a mut self,
        job: &JobParameters,
        from: Option<LatentCheckpoint>,
    ) -> Result<Box<dyn Denoising + 'a>, WorkerFault>;

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
    /// [`WorkerFault::Cancelled`], [`WorkerFault::NotFinite`], the device's faults.
    fn step(&mut self, cancel: &dyn Fn() -> bool) -> Result<(), WorkerFault>;

    /// The latents after the last finished step: f32 little endian.
    ///
    /// # Errors
    /// The device's faults, when they are copied from it.
    fn latents(&self) -> Result<Vec<u8>, WorkerFault>;

    /// What the model made of the prompt; all of it, where the family has no words.
    fn reading(&self) -> Reading {
        Reading::default()
    }

    /// A cheap picture of what the latents are becoming; `None` when the family has none.
    ///
    /// # Errors
    /// The device's faults.
    fn preview(&self) -> Result<Option<Rgb8>, WorkerFault>;

    /// Turns the latents into the picture.
    ///
    /// # Errors
    /// [`WorkerFault::NotFinite`] when the autoencoder overflows, the device's faults.
    fn decode(self: Box<Self>) -> Result<Rgb8, WorkerFault>;
}

/// How a model computes, and where its encoders live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComputeSettings {
    /// What encoders and transformer compute in: f32, bf16 or f16.
    pub dtype: DType,
    /// What becomes of the encoders between two prompts.
    pub encoders: Encoders,
}

impl Default for ComputeSettings {
    fn default() -> ComputeSettings {
        ComputeSettings {
            dtype: DType::F32,
            encoders: Encoders::Keep,
        }
    }
}

impl ComputeSettings {
    /// What a worker on `device` makes of a section's words.
    pub fn on(device: Device, wished: Arithmetic) -> ComputeSettings {
        ComputeSettings {
            dtype: precision::of_tensors(precision::chosen(wished.dtype, device).dtype),
            encoders: wished.encoders,
        }
    }
}

/// The values of a checkpoint, if it is one of this job: not beyond its steps, and of its size.
///
/// # Errors
/// [`WorkerFault::BadRequest`] otherwise: it came through shared memory and is not trusted.
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
