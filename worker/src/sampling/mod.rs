//! Sampling: noise, sigmas, packing of latents and the Euler step. Uses no weights and no files.

pub mod noise;
pub mod packing;
pub mod sigmas;
