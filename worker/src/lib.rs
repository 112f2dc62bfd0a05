//! Serves one image model in one process: weights, sampling and pictures.

pub mod cancel;
pub mod device;
pub mod fault;
pub mod footprint;
pub mod golden;
pub mod job;
pub mod leash;
pub mod manifest;
pub mod own_file;
pub mod panics;
pub mod pipelines;
pub mod pixels;
pub mod sampling;
pub mod session;
pub mod weights;
pub mod work;
