//! One picture on its way through a FLUX model.

use super::transformer::Conditioning;
use super::{Flux, SIZE_MULTIPLE};
use crate::fault::Fault;
use crate::pipelines::layers::finite;
use crate::pipelines::{Checkpoint, Denoising, JobParameters, Rgb8, checkpoint_values};
use crate::pixels;
use crate::sampling::{noise, packing, sigmas};
use candle_core::{Device, Tensor};

/// Latents of one picture between its noise and its decoding.
pub(super) struct Job<'a> {
    model: &'a Flux,
    by: Conditioning,
    sigmas: Vec<f32>,
    tokens: Tensor, // (1, s, 64) f32
    size: (u32, u32),
    done: u32,
    cut: bool,
}

impl<'a> Job<'a> {
    pub(super) fn start(
        model: &'a Flux,
        job: &JobParameters,
        from: Option<Checkpoint>,
    ) -> Result<Job<'a>, Fault> {
        check(job)?;
        let shape = model.latents_shape(job.width, job.height);
        let count = shape.0 * shape.1 * shape.2 * shape.3;
        let (done, latents) = match from {
            Some(checkpoint) => (
                checkpoint.steps_done,
                checkpoint_values(&checkpoint, job, count)?,
            ),
            None => (0, noise::normal(job.seed, count)),
        };
        let latents = Tensor::from_vec(latents, shape, model.device())?; // (1, 16, h/8, w/8)
        let ids = model.ids(&job.prompt, None)?;
        let encoded = model.encode(&ids.t5.ids, &ids.clip.ids)?;
        Ok(Job {
            by: model.condition(&encoded, job.height as usize, job.width as usize)?,
            model,
            sigmas: sigmas::even(job.steps),
            tokens: packing::pack(&latents)?,
            size: (job.width, job.height),
            done,
            cut: ids.t5.cut,
        })
    }

    fn unpacked(&self) -> Result<Tensor, Fault> {
        let (_, _, rows, columns) = self.model.latents_shape(self.size.0, self.size.1);
        packing::unpack(&self.tokens, rows, columns)
    }
}

/// What this family cannot do is refused and never ignored.
fn check(job: &JobParameters) -> Result<(), Fault> {
    let refuse = |field, sentence: String| Err(Fault::BadRequest { field, sentence });
    let side = |pixels: u32| pixels > 0 && pixels.is_multiple_of(SIZE_MULTIPLE);
    if !side(job.width) || !side(job.height) {
        let size = format!("{}x{}", job.width, job.height);
        return refuse(
            "size",
            format!("{size} is not made of multiples of {SIZE_MULTIPLE}"),
        );
    }
    if job.steps == 0 {
        return refuse("steps", "at least 1 is needed".to_owned());
    }
    if job.guidance > 1.0 {
        return refuse(
            "guidance",
            "this model was trained to draw without: leave it at 0".to_owned(),
        );
    }
    if job.negative.is_some() {
        return refuse(
            "negative",
            "this model has no guidance that could use one".to_owned(),
        );
    }
    Ok(())
}

impl Denoising for Job<'_> {
    fn steps_done(&self) -> u32 {
        self.done
    }

    fn step(&mut self, cancel: &dyn Fn() -> bool) -> Result<(), Fault> {
        if cancel() {
            return Err(Fault::Cancelled);
        }
        let i = self.done as usize;
        let [now, next] = [i, i + 1].map(|level| self.sigmas.get(level).copied());
        let (Some(now), Some(next)) = (now, next) else {
            return Err(Fault::Compute(format!("step {} of {i}", i + 1)));
        };
        let velocity = self.model.predict(&self.tokens, now, &self.by)?;
        let tokens = sigmas::euler(&self.tokens, &velocity, now, next)?;
        finite(&tokens, || format!("denoising step {}", i + 1))?;
        (self.tokens, self.done) = (tokens, self.done + 1);
        Ok(())
    }

    fn latents(&self) -> Result<Vec<u8>, Fault> {
        let latents = self.unpacked()?.to_device(&Device::Cpu)?;
        let values = latents.flatten_all()?.to_vec1::<f32>()?;
        Ok(values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect())
    }

    fn prompt_was_cut(&self) -> bool {
        self.cut
    }

    fn preview(&self) -> Result<Option<Rgb8>, Fault> {
        Ok(None)
    }

    fn decode(self: Box<Self>) -> Result<Rgb8, Fault> {
        let picture = self.model.decode(&self.unpacked()?)?;
        let (width, height) = self.size;
        Ok(Rgb8 {
            width,
            height,
            bytes: pixels::bytes(&picture)?,
        })
    }
}
