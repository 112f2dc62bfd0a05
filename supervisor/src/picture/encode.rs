//! Encodes a picture as PNG with its receipt, JPEG or WebP.

use image::codecs::{jpeg::JpegEncoder, webp::WebPEncoder};
use image::{ExtendedColorType, ImageEncoder};
use ipc_protocol::client::Picture;

use super::format::PictureFormat;
use super::receipt::{self, Receipt};

/// JPEG quality, of 100; high enough that most people see no difference.
const JPEG_QUALITY: u8 = 92;

/// Why a picture cannot be encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The PNG encoder failed.
    #[error("cannot encode PNG: {0}")]
    Png(#[from] png::EncodingError),
    /// The JPEG or WebP encoder failed.
    #[error("cannot encode: {0}")]
    Other(#[from] image::ImageError),
    /// The receipt cannot be written as JSON.
    #[error("cannot write the receipt: {0}")]
    Receipt(#[from] serde_json::Error),
}

/// Returns the bytes of the file. Only PNG files contain the receipt.
pub fn encode(
    picture: &Picture,
    format: PictureFormat,
    receipt: Option<&Receipt>,
) -> Result<Vec<u8>, EncodeError> {
    let (width, height) = (picture.size.width, picture.size.height);
    let mut bytes = Vec::new();
    match format {
        PictureFormat::Png => return encode_png(picture, receipt),
        PictureFormat::Jpeg => JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY)
            .write_image(&picture.rgb8, width, height, ExtendedColorType::Rgb8)?,
        PictureFormat::Webp => WebPEncoder::new_lossless(&mut bytes).write_image(
            &picture.rgb8,
            width,
            height,
            ExtendedColorType::Rgb8,
        )?,
    }
    Ok(bytes)
}

fn encode_png(picture: &Picture, receipt: Option<&Receipt>) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, picture.size.width, picture.size.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    if let Some(receipt) = receipt {
        let text = serde_json::to_string(receipt)?;
        encoder.add_itxt_chunk(receipt::KEYWORD.into(), text)?;
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&picture.rgb8)?;
    writer.finish()?;
    Ok(bytes)
}
