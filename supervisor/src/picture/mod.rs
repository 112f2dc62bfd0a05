//! A picture's file: pixels with the receipt of everything that they depend on.
//!
//! - [`receipt`] is what a picture depends on
//! - [`mod@format`] are the kinds of files, [`encode`] writes one and [`decode`] reads one
//! - [`compare`] measures how far two pictures are apart

pub mod compare;
pub mod decode;
pub mod encode;
pub mod format;
pub mod receipt;
