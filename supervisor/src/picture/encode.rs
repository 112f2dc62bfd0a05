//! Encodes a picture as PNG with its receipt, JPEG or WebP.

use image_webp::WebPEncoder;
use ipc_protocol::client::Picture;
use jpeg_encoder::SamplingFactor;

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
    /// The JPEG encoder failed.
    #[error("cannot encode JPEG: {0}")]
    Jpeg(#[from] jpeg_encoder::EncodingError),
    /// JPEG cannot state a side of this many pixels.
    #[error("cannot encode JPEG: {0} pixels are more than the 65535 of its longest side")]
    JpegSide(u32),
    /// The WebP encoder failed.
    #[error("cannot encode WebP: {0}")]
    Webp(#[from] image_webp::EncodingError),
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
        PictureFormat::Jpeg => encode_jpeg(picture, &mut bytes)?,
        PictureFormat::Webp => WebPEncoder::new(&mut bytes).encode(
            &picture.rgb8,
            width,
            height,
            image_webp::ColorType::Rgb8,
        )?,
    }
    Ok(bytes)
}

/// Encodes with full colour resolution: subsampling blurs the edges of coloured shapes.
fn encode_jpeg(picture: &Picture, bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
    let side = |pixels: u32| u16::try_from(pixels).map_err(|_| EncodeError::JpegSide(pixels));
    let (width, height) = (side(picture.size.width)?, side(picture.size.height)?);
    let mut encoder = jpeg_encoder::Encoder::new(bytes, JPEG_QUALITY);
    encoder.set_sampling_factor(SamplingFactor::R_4_4_4);
    encoder.encode(&picture.rgb8, width, height, jpeg_encoder::ColorType::Rgb)?;
    Ok(())
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
