//! A picture that was read from a file, and the refusals of all formats.

use ipc_protocol::units::PictureSize;

use super::format::{PictureFormat, Quality};
use super::receipt::{Receipt, Refusal};

/// Most pixels of a picture that is decoded.
pub(super) const PIXELS_MAX: u64 = 4096 * 4096;

/// A picture read from a file.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedFile {
    /// Size in pixels.
    pub size: PictureSize,
    /// The pixels.
    pub pixels: FilePixels,
    /// The receipt of the picture.
    pub receipt: Receipt,
}

/// The pixels of a file.
#[derive(Debug, Clone, PartialEq)]
pub enum FilePixels {
    /// Exact: rows from the top, three bytes a pixel.
    Exact(Vec<u8>),
    /// Encoded with losses, at the quality that the file names. They are not decoded: the pixels that were encoded
    /// cannot be had again, but the same pixels give the same file.
    Lossy {
        /// The format.
        format: PictureFormat,
        /// The quality.
        quality: Quality,
        /// The whole file.
        file: Vec<u8>,
    },
}

/// Refuses a picture that no model draws, before memory is allocated for its pixels.
pub(super) fn check_size(size: PictureSize) -> Result<(), Refusal> {
    if size.pixels() > PIXELS_MAX {
        let message = format!("its {size} pixels are more than any model draws");
        return Err(Refusal::new(message));
    }
    Ok(())
}

/// The refusal of a file without a receipt.
pub(super) fn no_receipt() -> Refusal {
    Refusal::new("has no receipt: it was drawn with --no-metadata, or another program wrote it")
}

/// The refusal of a file whose pixels have another form than ours.
pub(super) fn not_rgb8() -> Refusal {
    Refusal::new("its pixels are not 8-bit RGB, so another program has changed the file")
}
