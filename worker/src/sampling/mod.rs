//! The diffusion side: noise, sigmas, packing and the step. No weights, no files.

pub mod noise;
pub mod packing;
pub mod sigmas;
