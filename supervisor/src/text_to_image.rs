//! The pool as a library: runs the loop inside another program, without a daemon.
//!
//! A model is a type with the trait [`TextToImageModel`], whose `generate_image` returns a stream of chunks. The
//! [`TextToImagePool`] owns the workers, which are processes here too.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipc_protocol::failure::{Failure, FailureKind, Field};
use ipc_protocol::ids::{DeviceConstraint, ModelKey};
use ipc_protocol::messages::client::{Target, Verb};
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::{Mebibytes, PictureSize};
use pool::Progress;

use crate::clock::Clock;
use crate::config::Config;
use crate::driver::Driver;
use crate::driver::handle::{AcceptedRequest, Caller, FinishedPicture, Handle, JobUpdate};
use crate::driver::setup::Setup;

/// An error of the pool. It arrives as a value in the stream; the library does not panic.
pub type PoolError = Failure;

/// Parameters of a picture; `None` is the model's default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImageGenerationConfig {
    /// Width in pixels; needs `height`.
    pub width: Option<u32>,
    /// Height in pixels; needs `width`.
    pub height: Option<u32>,
    /// Number of denoising steps.
    pub steps: Option<u32>,
    /// Scale of classifier-free guidance.
    pub guidance_scale: Option<f32>,
    /// Negative prompt.
    pub negative_prompt: Option<String>,
    /// Seed of the noise.
    pub seed: Option<u64>,
}

/// An item of an [`ImageStream`]. The last one is `Complete` or `Error`; all others are `Step`.
#[derive(Debug, Clone)]
pub enum ImageGenerationChunk {
    /// A finished step.
    Step {
        /// Number of the finished step, from 1.
        index: u32,
        /// Number of steps.
        total: u32,
        /// Time since the attempt began.
        elapsed: Duration,
    },
    /// The finished picture.
    Complete(Arc<FinishedPicture>),
    /// The job failed.
    Error(PoolError),
}

/// A model in the registry.
pub trait TextToImageModel {
    /// Returns the key of the model.
    fn registry_key(&self) -> &'static str;

    /// Draws `prompt` in `pool`, on `device` or where the pool decides.
    fn generate_image(
        &self,
        pool: &TextToImagePool,
        prompt: &str,
        config: &ImageGenerationConfig,
        device: DeviceConstraint,
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

/// A pool whose loop runs in this process. Its workers exit with the process.
#[derive(Debug, Clone)]
pub struct TextToImagePool {
    handle: Handle,
}

/// Starts a pool in the current tokio runtime; `worker_program` is the path of the worker program.
///
/// # Errors
/// The settings are invalid, or the thread that starts workers cannot be started.
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

    /// Starts a worker of the model before the first request.
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
        device: DeviceConstraint,
    ) -> ImageStream {
        let size = config.width.zip(config.height);
        if size.is_none() && (config.width.is_some() || config.height.is_some()) {
            let what = "width and height go together: set both or neither".to_owned();
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

    /// Memory reserved for live workers, over all devices, in MiB.
    pub async fn total_memory_mb(&self) -> Result<u64, PoolError> {
        let report = self.handle.status().await?;
        let promised = report
            .status
            .memory
            .iter()
            .map(|book| Mebibytes(book.reserved_mb));
        Ok(promised.sum::<Mebibytes>().0)
    }

    /// Finishes the accepted jobs, then stops the workers and the pool.
    pub async fn shut_down(&self) -> Result<(), PoolError> {
        self.handle.drain(false).await
    }
}

/// The chunks of one picture. Dropping the stream before its end cancels the job.
#[derive(Debug)]
pub enum ImageStream {
    /// The job is accepted; chunks will arrive.
    AcceptedRequest(Box<AcceptedRequest>),
    /// The request was refused; the next chunk is the error.
    Refused(PoolError),
    /// The last chunk was returned.
    Ended,
}

impl ImageStream {
    /// Waits for the next chunk; `None` after the last one. Cancelling a call loses nothing: the next call returns the
    /// chunk.
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

/// Converts an update to a chunk; `None` if it is not about a step or the end of the job.
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
