//! One image model in one process: weights, sampling and pictures.

pub mod device;
pub mod fault;
pub mod golden;
pub mod manifest;
pub mod pipelines;
pub mod pixels;
pub mod sampling;
pub mod weights;
pub mod cancel;
pub mod footprint;
pub mod job;
pub mod leash;
pub mod session;
