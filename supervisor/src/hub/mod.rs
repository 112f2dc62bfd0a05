//! Where models come from, and what is known of their files.
//!
//! - [`manifest`] reads what the worker program says of files

pub mod manifest;

pub use manifest::{BUILT_IN, built_in, read_manifest};
