//! A family without weights: draws a pattern from the seed, with configured times and memory.
//!
//! It is for tests and measurements of everything around a model. Each step changes the latents a little, and
//! depends only on the latents and the number of the step. So a job that resumes from a checkpoint gives the same
//! bytes as an uninterrupted one.

#![allow(
    clippy::disallowed_methods,
    reason = "this family takes the configured time; no decision depends on it"
)]

use crate::fault::WorkerFault;
use crate::pipelines::pipeline::{
    Denoising, JobParameters, LatentCheckpoint, Pipeline, Rgb8, checkpoint_values,
};
use crate::sampling::noise;
use crate::work;
use ipc_protocol::latents::LatentShape;
use std::time::{Duration, Instant};

const CHANNELS: usize = LATENTS.channels as usize;
const PIXELS_PER_LATENT: usize = LATENTS.downscale as usize;

/// The shape of the latents.
pub const LATENTS: LatentShape = LatentShape {
    channels: 16,
    downscale: 8,
};

/// The sides of a picture are multiples of this number of pixels.
pub const SIZE_MULTIPLE: u32 = PIXELS_PER_LATENT as u32;

/// Interval of the checks for cancellation.
const SLICE: Duration = Duration::from_millis(5);

/// A page size that is at most the system's.
const PAGE: usize = 4096;

/// A model with a configured memory and time per step.
pub struct SyntheticModel {
    step: Duration,
    _weights: Vec<u8>, // only takes memory
}

impl SyntheticModel {
    /// Writes to `weights_mb` MiB within `load_ms`, and reports the progress.
    pub fn load(
        step_ms: u32,
        load_ms: u32,
        weights_mb: u32,
        progress: &mut dyn FnMut(f32),
    ) -> SyntheticModel {
        let (start, whole) = (Instant::now(), Duration::from_millis(u64::from(load_ms)));
        let mut weights = vec![0u8; weights_mb as usize * (1 << 20)];
        // Every page is written with a value unknown to the compiler; zero pages may not take memory.
        weights
            .iter_mut()
            .step_by(PAGE)
            .for_each(|byte| *byte = std::hint::black_box(1));
        while start.elapsed() < whole {
            progress(start.elapsed().as_secs_f32() / whole.as_secs_f32());
            std::thread::sleep(SLICE.min(whole.saturating_sub(start.elapsed())));
        }
        progress(1.0);
        SyntheticModel {
            step: Duration::from_millis(u64::from(step_ms)),
            _weights: weights,
        }
    }
}

fn latents_count(width: u32, height: u32) -> usize {
    CHANNELS * (width as usize / PIXELS_PER_LATENT) * (height as usize / PIXELS_PER_LATENT)
}

impl Pipeline for SyntheticModel {
    fn start<'a>(
        &'a mut self,
        job: &JobParameters,
        from: Option<LatentCheckpoint>,
    ) -> Result<Box<dyn Denoising + 'a>, WorkerFault> {
        let side = |pixels: u32| pixels > 0 && pixels.is_multiple_of(SIZE_MULTIPLE);
        if !side(job.width) || !side(job.height) {
            let sentence = format!("sides are multiples of {SIZE_MULTIPLE}");
            return Err(WorkerFault::BadRequest {
                field: "size",
                sentence,
            });
        }
        let count = latents_count(job.width, job.height);
        let (done, latents) = match from {
            Some(checkpoint) => (
                checkpoint.steps_done,
                checkpoint_values(&checkpoint, job, count)?,
            ),
            None => (0, noise::normal(job.seed, count)),
        };
        Ok(Box::new(SyntheticJob {
            latents,
            done,
            size: (job.width, job.height),
            step: self.step,
        }))
    }

    fn latents_bytes(&self, width: u32, height: u32) -> usize {
        latents_count(width, height) * size_of::<f32>()
    }
}

struct SyntheticJob {
    latents: Vec<f32>, // (16, h/8, w/8)
    done: u32,
    size: (u32, u32),
    step: Duration,
}

impl SyntheticJob {
    /// The mean of one channel, from which the pattern is drawn.
    fn mean(&self, channel: usize) -> f32 {
        let plane = self.latents.len() / CHANNELS;
        let values = &self.latents[channel * plane..(channel + 1) * plane];
        (values.iter().map(|value| f64::from(*value)).sum::<f64>() / plane as f64) as f32
    }

    /// Draws a wave for each colour in a picture of this size; its direction, length and phase come from the latents.
    fn pattern(&self, (width, height): (u32, u32)) -> Rgb8 {
        // Means of many values are small; they are scaled to several periods across the picture.
        let scale = (self.latents.len() as f32 / CHANNELS as f32).sqrt();
        let waves = [0, 1, 2].map(|c| Wave {
            across: self.mean(c * 5) * scale * 6.0 + c as f32,
            down: self.mean(c * 5 + 1) * scale * 6.0 + c as f32,
            phase: self.mean(c * 5 + 2) * scale * 6.0 + c as f32,
        });
        let columns: Vec<[Angles; 3]> = (0..width)
            .map(|x| {
                waves
                    .each_ref()
                    .map(|wave| wave.column(x as f32 / width as f32))
            })
            .collect();
        let mut bytes = Vec::with_capacity(columns.len() * height as usize * 3);
        for y in 0..height {
            let row = waves
                .each_ref()
                .map(|wave| wave.row(y as f32 / height as f32));
            for column in &columns {
                bytes.extend([0, 1, 2].map(|c| column[c].brightness(&row[c])));
            }
        }
        Rgb8 {
            width,
            height,
            bytes,
        }
    }
}

/// Straight waves and elliptic ones of one colour.
struct Wave {
    across: f32,
    down: f32,
    phase: f32,
}

impl Wave {
    /// The part of the angles that a column gives, at `x` from 0 to 1.
    fn column(&self, x: f32) -> Angles {
        let elliptic = 3.0 * self.across * (x - 0.5).powi(2) + self.phase;
        Angles::new(self.across * x + self.phase, elliptic)
    }

    /// The part of the angles that a row gives, at `y` from 0 to 1.
    fn row(&self, y: f32) -> Angles {
        Angles::new(self.down * y, 3.0 * self.down * (y - 0.5).powi(2))
    }
}

/// Sine and cosine of the angles of the straight and of the elliptic wave.
///
/// The sine of a sum is made of the sines and cosines of its terms, so a picture needs them for its columns and rows
/// only and not for each pixel: a measurement of the pool should not measure sines.
struct Angles {
    straight: (f32, f32),
    elliptic: (f32, f32),
}

impl Angles {
    fn new(straight: f32, elliptic: f32) -> Self {
        Self {
            straight: libm::sincosf(straight),
            elliptic: libm::sincosf(elliptic),
        }
    }

    /// The brightness of the pixel of this column and that row.
    fn brightness(&self, row: &Self) -> u8 {
        let sine =
            |(sine, cosine): (f32, f32), other: (f32, f32)| sine * other.1 + cosine * other.0;
        let straight = sine(self.straight, row.straight);
        let elliptic = sine(self.elliptic, row.elliptic);
        ((0.5 + 0.3 * straight + 0.2 * elliptic) * 255.0 + 0.5) as u8
    }
}

impl Denoising for SyntheticJob {
    fn steps_done(&self) -> u32 {
        self.done
    }

    fn step(&mut self, cancel: &dyn Fn() -> bool) -> Result<(), WorkerFault> {
        let start = Instant::now();
        while start.elapsed() < self.step {
            if cancel() {
                return Err(WorkerFault::Cancelled);
            }
            std::thread::sleep(SLICE.min(self.step.saturating_sub(start.elapsed())));
            work::finished_one();
        }
        let turn = 1.0 / (self.done as f32 + 2.0);
        let before = self.latents.last().copied().unwrap_or_default();
        self.latents.iter_mut().fold(before, |left, value| {
            let old = *value;
            *value = old * (1.0 - turn * 0.5) + left * turn * 0.25;
            old
        });
        self.done += 1;
        Ok(())
    }

    fn latents(&self) -> Result<Vec<u8>, WorkerFault> {
        let mut bytes = Vec::with_capacity(self.latents.len() * size_of::<f32>());
        for value in &self.latents {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        Ok(bytes)
    }

    fn preview(&self) -> Result<Option<Rgb8>, WorkerFault> {
        let side = |pixels: u32| pixels / PIXELS_PER_LATENT as u32;
        Ok(Some(self.pattern((side(self.size.0), side(self.size.1)))))
    }

    fn decode(self: Box<Self>) -> Result<Rgb8, WorkerFault> {
        Ok(self.pattern(self.size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(seed: u64) -> JobParameters {
        let prompt = "any".to_owned();
        JobParameters {
            prompt,
            negative: None,
            width: 64,
            height: 40,
            steps: 6,
            guidance: 0.0,
            seed,
        }
    }

    fn run(seed: u64, from: Option<LatentCheckpoint>, stop_at: u32) -> (Vec<u8>, Rgb8) {
        let mut model = SyntheticModel::load(0, 0, 1, &mut |_| {});
        let mut run = model.start(&job(seed), from).expect("a good job");
        while run.steps_done() < stop_at {
            run.step(&|| false).expect("it is not cancelled");
        }
        (
            run.latents().expect("plain memory"),
            run.decode().expect("plain memory"),
        )
    }

    #[test]
    fn a_job_resumed_from_a_checkpoint_gives_the_same_bytes() {
        let whole = run(9, None, 6);
        for steps_done in 0..6 {
            let bytes = run(9, None, steps_done).0;
            assert_eq!(
                run(9, Some(LatentCheckpoint { steps_done, bytes }), 6),
                whole
            );
        }
        assert_ne!(run(10, None, 6).1, whole.1);
    }

    #[test]
    fn a_checkpoint_of_another_size_is_refused() {
        let mut model = SyntheticModel::load(0, 0, 0, &mut |_| {});
        let from = Some(LatentCheckpoint {
            steps_done: 1,
            bytes: vec![0; 12],
        });
        assert!(matches!(
            model.start(&job(1), from).err(),
            Some(WorkerFault::BadRequest { .. })
        ));
    }

    #[test]
    fn a_cancelled_step_ends_early() {
        let mut model = SyntheticModel::load(60_000, 0, 0, &mut |_| {});
        let mut run = model.start(&job(1), None).expect("a good job");
        let start = Instant::now();
        let fault = run.step(&|| start.elapsed() > Duration::from_millis(20));
        assert!(matches!(fault, Err(WorkerFault::Cancelled)));
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
