//! Drawing one picture from noise to bytes, the same for every family.

use crate::fault::WorkerFault;
use crate::pipelines::parts::layers::finite;
use crate::pipelines::pipeline::{
    Denoising, JobParameters, LatentCheckpoint, Rgb8, checkpoint_values,
};
use crate::pipelines::preview::{self, Colours};
use crate::pixels;
use crate::sampling::packing::PATCH;
use crate::sampling::{noise, sigmas};
use candle_core::{Device, Tensor};
use ipc_protocol::latents::LatentShape;
use ipc_protocol::reading::Reading;

/// Largest picture whose previews are decoded, in pixels: it takes a fraction of a second on a CPU.
const DECODED_PIXELS_MAX: u64 = 256 * 256;

/// The predictor and decoder of a model.
pub(super) trait Predictor {
    /// The inputs that are the same in all steps of a job.
    type Conditioning;

    /// Predicts the velocity of latents (1, c, h, w) at noise level `sigma`, in f32 with the same shape.
    fn velocity(
        &self,
        latents: &Tensor,
        sigma: f32,
        by: &Self::Conditioning,
    ) -> Result<Tensor, WorkerFault>;

    /// Decodes latents (1, c, h, w) to a picture (1, 3, H, W) of finite values in about -1..1.
    fn picture(&self, latents: &Tensor) -> Result<Tensor, WorkerFault>;

    /// The map of latents to colours, if known.
    fn colours(&self) -> Option<&Colours>;

    /// The shape of the latents.
    fn latents(&self) -> LatentShape;
}

/// The latents of one picture between its noise and its decoding.
pub(super) struct Denoised<'a, P: Predictor> {
    predictor: &'a P,
    by: P::Conditioning,
    sigmas: Vec<f32>,
    latents: Tensor,          // (1, c, h, w) f32
    velocity: Option<Tensor>, // of the last step, the same shape
    size: (u32, u32),
    done: u32,
    reading: Reading,
}

/// The sides of a picture are multiples of this number of pixels, a patch of latents.
pub fn size_multiple(latents: LatentShape) -> u32 {
    latents.downscale * PATCH as u32
}

/// The first latents of a job, from noise or from its checkpoint, and the number of finished steps.
///
/// # Errors
/// A checkpoint that does not belong to this job.
pub(super) fn begin(
    job: &JobParameters,
    from: Option<LatentCheckpoint>,
    latents: LatentShape,
    device: &Device,
) -> Result<(Tensor, u32), WorkerFault> {
    let plane = latents.plane(job.size());
    let (rows, columns) = (plane.height as usize, plane.width as usize);
    let shape = (1, latents.channels as usize, rows, columns);
    let count = shape.0 * shape.1 * shape.2 * shape.3;
    let (done, values) = match from {
        Some(checkpoint) => (
            checkpoint.steps_done,
            checkpoint_values(&checkpoint, job, count)?,
        ),
        None => (0, noise::normal(job.seed, count)),
    };
    Ok((Tensor::from_vec(values, shape, device)?, done))
}

/// Refuses sizes and steps that no family supports.
///
/// # Errors
/// [`WorkerFault::BadRequest`] with the field.
pub(super) fn check(job: &JobParameters, latents: LatentShape) -> Result<(), WorkerFault> {
    let multiple = size_multiple(latents);
    let refuse = |field, sentence: String| Err(WorkerFault::BadRequest { field, sentence });
    let side = |pixels: u32| pixels > 0 && pixels.is_multiple_of(multiple);
    if !side(job.width) || !side(job.height) {
        let size = format!("{}x{}", job.width, job.height);
        return refuse(
            "size",
            format!("{size} is not possible: both sides must be multiples of {multiple}"),
        );
    }
    if job.steps == 0 {
        return refuse("steps", "0 is not possible: use at least 1".to_owned());
    }
    Ok(())
}

impl<'a, P: Predictor> Denoised<'a, P> {
    pub(super) fn new(
        predictor: &'a P,
        by: P::Conditioning,
        sigmas: Vec<f32>,
        (latents, done): (Tensor, u32),
        job: &JobParameters,
        reading: Reading,
    ) -> Denoised<'a, P> {
        Denoised {
            predictor,
            by,
            sigmas,
            latents,
            velocity: None,
            size: (job.width, job.height),
            done,
            reading,
        }
    }

    fn level(&self, step: u32) -> Result<f32, WorkerFault> {
        let level = self.sigmas.get(step as usize).copied();
        level.ok_or_else(|| WorkerFault::Compute(format!("there is no step {step}")))
    }
}

impl<P: Predictor> Denoising for Denoised<'_, P> {
    fn steps_done(&self) -> u32 {
        self.done
    }

    fn step(&mut self, cancel: &dyn Fn() -> bool) -> Result<(), WorkerFault> {
        if cancel() {
            return Err(WorkerFault::Cancelled);
        }
        let (now, next) = (self.level(self.done)?, self.level(self.done + 1)?);
        let velocity = self.predictor.velocity(&self.latents, now, &self.by)?;
        let latents = sigmas::euler(&self.latents, &velocity, now, next)?;
        finite(&latents, || format!("denoising step {}", self.done + 1))?;
        (self.latents, self.done) = (latents, self.done + 1);
        self.velocity = Some(velocity);
        Ok(())
    }

    fn latents(&self) -> Result<Vec<u8>, WorkerFault> {
        let latents = self.latents.to_device(&Device::Cpu)?;
        let values = latents.flatten_all()?.to_vec1::<f32>()?;
        Ok(values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect())
    }

    fn reading(&self) -> Reading {
        self.reading.clone()
    }

    /// The picture that the velocity of the last step leads to, `x - sigma * v`, by the map of latents to colours
    /// if there is one, else by the decoder if the picture is small.
    fn preview(&self) -> Result<Option<Rgb8>, WorkerFault> {
        let Some(velocity) = &self.velocity else {
            return Ok(None);
        };
        let rest = (velocity * f64::from(self.level(self.done)?))?;
        let ahead = (&self.latents - rest)?;
        let pixels = u64::from(self.size.0) * u64::from(self.size.1);
        match self.predictor.colours() {
            Some(colours) => colours.of(&ahead).map(Some),
            None if pixels <= DECODED_PIXELS_MAX => {
                let downscale = self.predictor.latents().downscale as usize;
                preview::of_picture(&self.predictor.picture(&ahead)?, downscale).map(Some)
            }
            None => Ok(None),
        }
    }

    fn decode(self: Box<Self>) -> Result<Rgb8, WorkerFault> {
        let picture = self.predictor.picture(&self.latents)?;
        let (width, height) = self.size;
        Ok(Rgb8 {
            width,
            height,
            bytes: pixels::bytes(&picture)?,
        })
    }
}
