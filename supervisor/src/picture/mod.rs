//! Picture files: pixels, and the receipt that lists everything they depend on.
//!
//! - [`receipt`]: the inputs of a picture
//! - [`mod@format`]: the file formats; [`encode`] writes files and [`decode`] reads them
//! - [`compare`]: the difference of two pictures

pub mod compare;
pub mod decode;
pub mod encode;
pub mod format;
pub mod receipt;
