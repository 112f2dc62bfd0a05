//! Errors of the encoders.

use ipc_protocol::units::PictureSize;

/// Why a picture cannot be encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The PNG encoder failed.
    #[error("cannot encode PNG: {0}")]
    Png(#[from] png::EncodingError),
    /// The JPEG encoder failed.
    #[error("cannot encode JPEG: {0}")]
    Jpeg(#[from] jpeg_encoder::EncodingError),
    /// The WebP encoder failed.
    #[error("cannot encode WebP: {0}")]
    Webp(#[from] image_webp::EncodingError),
    /// The prediction modes of a lossy WebP are longer than the format can state.
    #[error(
        "cannot encode WebP: a {0} picture is too large with losses; ask for quality 100 or another format"
    )]
    WebpModes(PictureSize),
    /// The format cannot state a side of this many pixels.
    #[error("cannot encode {format}: {side} pixels are more than the {most} of its longest side")]
    Side {
        /// Name of the format.
        format: &'static str,
        /// Pixels of the side.
        side: u32,
        /// Most pixels of a side.
        most: u32,
    },
    /// The pixels are not three bytes for each pixel of the size.
    #[error("cannot encode a {size} picture: it has {bytes} bytes of pixels")]
    Pixels {
        /// The size.
        size: PictureSize,
        /// Number of bytes.
        bytes: usize,
    },
    /// The receipt cannot be written as JSON.
    #[error("cannot write the receipt: {0}")]
    Receipt(#[from] serde_json::Error),
    /// The encoder panicked.
    #[error("cannot encode the picture: the encoder failed unexpectedly")]
    Panicked,
}
