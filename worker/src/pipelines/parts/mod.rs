//! The parts of models: text encoders, decoder, and the layers in them.

pub mod activation;
pub mod attention;
pub mod autoencoder;
pub mod clip;
pub mod embedding;
pub mod heads;
pub mod ignored;
pub mod layers;
pub mod modulation;
pub mod norms;
pub mod sizes;
pub mod t5;
pub mod tiling;
pub mod tokens;
