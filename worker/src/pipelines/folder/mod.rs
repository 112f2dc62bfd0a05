//! A model's folder: which file holds which part, and what the files beside the weights say.

pub mod configuration;
pub mod diffusers;
pub mod lexicon;
pub(crate) mod preset;
pub mod rights;
pub mod schedule;
pub mod search;
pub mod shapes;
pub mod stamp;
pub mod text_file;
pub mod vocabulary;
