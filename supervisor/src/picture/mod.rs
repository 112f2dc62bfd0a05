//! Picture files: the pixels, and the receipt that lists everything they depend on.
//!
//! - [`receipt`]: the inputs of a picture; [`xmp`]: the mark, and the receipt in formats without text chunks
//! - [`mod@format`]: the file formats; [`mod@file`] writes files and [`decode`] reads them
//! - [`encode_pool`]: writes them beside the loop
//! - [`mod@scale`]: pictures in another size
//! - [`compare`]: the difference of two pictures

pub mod compare;
pub mod decode;
mod decoded_file;
mod encode_error;
pub mod encode_pool;
pub mod file;
pub mod format;
mod jpeg;
mod md5;
mod png_file;
pub mod receipt;
pub mod scale;
mod vp8;
mod webp;
pub mod xmp;
