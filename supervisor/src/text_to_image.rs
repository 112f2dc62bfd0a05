//! The pool as a library: a program that wants pictures without a daemon runs the loop in itself.
//!
//! The shape is that of the design this project grew from: models found by key, a trait whose
//! `generate_image` gives a stream of chunks, and a pool with `has_workers`, `generate_image` and
//! `total_memory_mb`. The workers are processes all the same.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipc_protocol::failure::{Failure, FailureKind, Field};
use ipc_protocol::ids::{DeviceWish, ModelKey};
use ipc_protocol::messages::client::{Target, Verb};
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::{Mebibytes, PictureSize};
use pool::Progress;

use crate::clock::Clock;
use crate::config::Config;
use crate::driver::Driver;
use crate::driver::handle::{AcceptedRequest, Caller, FinishedPicture, Handle, JobUpdate};
use crate::driver::setup::Setup;

/// What a pool error is to a caller of the library: a value in the stream, never a panic.
pub type PoolError = Failure;

/// How to draw; `None` is the model's default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImageGenerationConfig {
    /// Pixels in a row.
    pub width: Option<u32>,
    /// Rows; goes with `width`.
    pub height: Option<u32>,
    /// Denoising steps.
    pub steps: Option<u32>,
    /// Classifier-free guidance.
    pub guidance_scale: Option<f32>,
    /// What not to draw.
    pub negative_prompt: Option<String>,
    /// Seed of the noise.
    pub seed: Option<u64>,
}

/// One piece of a generation. The last one is `Complete` or `Error`, and there is exactly one of these.
#[derive(Debug, Clone)]
pub enum ImageGenerationChunk {
    /// A step is done.
    Step {
        /// Steps finished, from 1.
        index: u32,
        /// Steps in all.
        total: u32,
        /// Since the attempt began.
        elapsed: Duration,
    },
    /// The picture.
    Complete(Arc<FinishedPicture>),
    /// Why there is none.
    Error(PoolError),
}

/// A model of the registry.
pub trait TextToImageModel {
    /// Its key.
    fn registry_key(&self) -> &'static str;

    /// Draws `prompt` in `pool`. `device` is a wish; the pool decides.
    fn generate_image(
        &self,
        pool: &TextToImagePool,
        prompt: &str,
        config: &ImageGenerationConfig,
        device: DeviceWish,
    ) -> impl Future<Output = ImageStream> {
        pool.generate_image(self.registry_key(), prompt, config, device)
    }
}

/// Types that name a model of the registry.
macro_rules! models {
    ($($name:ident = $key:literal),+ $(,)?) => {
        $(
            #[doc = concat!("The model with the key `", $key, "`.")]
            #[derive(Debug, Clone, Copy)]
            pub struct $name;

            impl TextToImageModel for $name {
                fn registry_key(&self) -> &'static str {
                    $key
                }
            }
        )+
    };
}

models! {
    FluxSchnell = "flux-schnell",
    StableDiffusion35Turbo = "sd3.5-turbo",
}

/// A pool in this process. Its workers end with it.
#[derive(Debug, Clone)]
pub struct TextToImagePool {
    handle: Handle,
}

/// Starts a pool in the current tokio runtime, with workers of `worker_program`.
///
/// # Errors
/// Settings that make no registry, or no thread for the spawner.
pub fn text_to_image_pool(
    config: &Config,
    worker_program: PathBuf,
) -> Result<TextToImagePool, PoolError> {
    let failed = |why: String| Failure::new(FailureKind::Internal, why);
    let setup = Setup::assemble(config, worker_program, Clock::start()).map_err(failed)?;
    let driver = Driver::new(setup).map_err(|error| failed(error.to_string()))?;
    let handle = driver.handle();
    tokio::spawn(driver.run());
    Ok(TextToImagePool { handle })
}

impl TextToImagePool {
    /// Whether the model has a live worker.
    pub async fn has_workers(&self, key: &str) -> Result<bool, PoolError> {
        self.handle.has_workers(key).await
    }

    /// Starts a worker before anybody asks for it. What it loads and what that takes is in the registry.
    pub async fn spawn_text_to_image_worker(&self, key: &str) -> Result<(), PoolError> {
        let model =
            ModelKey::new(key).map_err(|why| Failure::new(FailureKind::UnknownModel, why))?;
        let own = Caller {
            user: "library".into(),
            operator: true,
        };
        let start = Verb::Start(Target::Model(model));
        let told = self.handle.operate(start, own).await?;
        if told.success {
            return Ok(());
        }
        Err(Failure::new(FailureKind::Internal, told.lines.join("; ")))
    }

    /// Draws one picture; the stream ends with exactly one `Complete` or `Error`.
    pub async fn generate_image(
        &self,
        key: &str,
        prompt: &str,
        config: &ImageGenerationConfig,
        device: DeviceWish,
    ) -> ImageStream {
        let size = config.width.zip(config.height);
        if size.is_none() && (config.width.is_some() || config.height.is_some()) {
            let what = "width and height go together: name both or neither".to_owned();
            return ImageStream::Refused(Failure::bad_value(Field::Size, what));
        }
        let request = ImageRequest {
            model: Some(key.to_owned()),
            size: size.map(|(width, height)| PictureSize { width, height }),
            steps: config.steps,
            guidance: config.guidance_scale,
            negative: config.negative_prompt.clone(),
            seed: config.seed,
            device,
            ..ImageRequest::new(prompt)
        };
        match self.handle.generate(request, "library".into()).await {
            Ok(ongoing) => ImageStream::AcceptedRequest(Box::new(ongoing)),
            Err(failure) => ImageStream::Refused(failure),
        }
    }

    /// Memory promised to live workers, over all devices, in MiB.
    pub async fn total_memory_mb(&self) -> Result<u64, PoolError> {
        let report = self.handle.status().await?;
        let promised = report
            .status
            .memory
            .iter()
            .map(|book| Mebibytes(book.reserved_mb));
        Ok(promised.sum::<Mebibytes>().0)
    }

    /// Finishes what is accepted, ends the workers and the pool.
    pub async fn shut_down(&self) -> Result<(), PoolError> {
        self.handle.drain(false).await
    }
}

/// The chunks of one generation. Dropping it before its end cancels the job.
#[derive(Debug)]
pub enum ImageStream {
    /// Chunks are on their way.
    AcceptedRequest(Box<AcceptedRequest>),
    /// One error is on its way.
    Refused(PoolError),
    /// The terminal chunk was given out.
    Ended,
}

impl ImageStream {
    /// The next chunk; `None` after the terminal one. A call that is given up loses nothing: the next one
    /// gets the chunk.
    pub async fn next(&mut self) -> Option<ImageGenerationChunk> {
        let chunk = match self {
            Self::Ended => return None,
            Self::Refused(failure) => ImageGenerationChunk::Error(failure.clone()),
            Self::AcceptedRequest(ongoing) => loop {
                if let Some(chunk) = chunk(ongoing.updates.recv().await) {
                    break chunk;
                }
            },
        };
        if !matches!(chunk, ImageGenerationChunk::Step { .. }) {
            *self = Self::Ended;
        }
        Some(chunk)
    }
}

/// What an update is to whoever draws one picture; nothing where it says only how a job waits.
fn chunk(update: Option<JobUpdate>) -> Option<ImageGenerationChunk> {
    Some(match update {
        Some(JobUpdate::Progress {
            progress:
                Progress::Step {
                    index,
                    total,
                    elapsed,
                },
            ..
        }) => ImageGenerationChunk::Step {
            index,
            total,
            elapsed,
        },
        Some(JobUpdate::Progress { .. } | JobUpdate::Preview { .. }) => return None,
        Some(JobUpdate::Picture(picture)) => ImageGenerationChunk::Complete(picture),
        Some(JobUpdate::Failed { failure, .. }) => ImageGenerationChunk::Error(failure),
        None => {
            let gone = "the pool ended before the picture was finished";
            ImageGenerationChunk::Error(Failure::new(FailureKind::Draining, gone))
        }
    })
}
