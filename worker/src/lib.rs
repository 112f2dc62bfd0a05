//! One image model in one process: weights, sampling and pictures.

pub mod device;
pub mod fault;
pub mod pipelines;
