//! From a prompt to a picture, one family of models each.
//!
//! ```text
//!   JobParameters ─▶ Pipeline::start ─▶ Denoising ──step──▶ … ──step──▶ decode ─▶ Rgb8
//!                      ▲ LatentCheckpoint        │ latents() after each step
//!                      └───────────────────┘ (another worker goes on from them, bit for bit)
//! ```
//!
//! A pipeline owns weights and no job; a [`Denoising`] owns one job's latents. Whoever drives it owns
//! the loop, and with it progress, cancelling between steps and publishing the latents.

pub mod architecture;
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
