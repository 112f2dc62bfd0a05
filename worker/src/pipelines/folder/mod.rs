//! A model's folder: the files of its parts, and the descriptions beside the weights.

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
