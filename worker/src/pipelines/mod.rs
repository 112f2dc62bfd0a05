//! Pipelines from a prompt to a picture, one for each family of models.
//!
//! ```text
//!   JobParameters ─▶ Pipeline::start ─▶ Denoising ──step──▶ … ──step──▶ decode ─▶ Rgb8
//!                      ▲ LatentCheckpoint  │ latents() after each step
//!                      └───────────────────┘ (another worker resumes from them, bit for bit)
//! ```
//!
//! A pipeline has the weights, a [`Denoising`] has the latents of one job. The caller runs the loop of steps,
//! reports progress, checks for cancellation between steps, and publishes the latents.

pub mod architecture;
pub mod cuda_need;
pub mod drawing;
pub mod embedded;
pub mod encoders;
pub mod families;
pub mod files;
pub mod folder;
pub mod model;
pub mod need;
pub mod parts;
pub mod pipeline;
pub mod precision;
pub mod preview;
pub mod text;

pub use families::{ModelOrigin, load, load_known, load_with};
pub use pipeline::{ComputeSettings, Denoising, JobParameters, LatentCheckpoint, Pipeline, Rgb8};
