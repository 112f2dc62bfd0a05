//! Encodes a picture as PNG with its receipt, JPEG or WebP.

use image_webp::WebPEncoder;
use ipc_protocol::client::Picture;
use ipc_protocol::units::PictureSize;
use jpeg_encoder::{Encoder, SamplingFactor};

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
    match format {
        PictureFormat::Png => encode_png(picture, receipt),
        PictureFormat::Jpeg => encode_jpeg(picture.size, &picture.rgb8),
        PictureFormat::Webp => encode_webp(picture.size, &picture.rgb8),
    }
}

/// Encodes with full colour resolution: subsampling blurs the edges of coloured shapes.
fn encode_jpeg(size: PictureSize, rgb8: &[u8]) -> Result<Vec<u8>, EncodeError> {
    let side = |pixels: u32| u16::try_from(pixels).map_err(|_| EncodeError::JpegSide(pixels));
    let (width, height) = (side(size.width)?, side(size.height)?);
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, JPEG_QUALITY);
    encoder.set_sampling_factor(SamplingFactor::R_4_4_4);
    encoder.encode(rgb8, width, height, jpeg_encoder::ColorType::Rgb)?;
    Ok(bytes)
}

/// Encodes without loss.
fn encode_webp(size: PictureSize, rgb8: &[u8]) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::new();
    let rgb = image_webp::ColorType::Rgb8;
    WebPEncoder::new(&mut bytes).encode(rgb8, size.width, size.height, rgb)?;
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

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image_webp::WebPDecoder;
    use zune_jpeg::JpegDecoder;
    use zune_jpeg::zune_core::bytestream::ZCursor;

    use super::*;

    /// Its sides are not multiples of a JPEG block.
    const SIZE: PictureSize = PictureSize {
        width: 67,
        height: 45,
    };

    /// A red square on a gradient.
    fn pixels() -> Vec<u8> {
        let pixel = |x: u32, y: u32| match (20..40).contains(&x) && (10..30).contains(&y) {
            true => [255, 0, 0],
            false => [(x * 3) as u8, (y * 5) as u8, 128],
        };
        let places = (0..SIZE.height).flat_map(|y| (0..SIZE.width).map(move |x| (x, y)));
        places.flat_map(|(x, y)| pixel(x, y)).collect()
    }

    #[test]
    fn a_webp_decodes_to_the_same_pixels() {
        let bytes = encode_webp(SIZE, &pixels()).expect("a small picture");
        let mut decoder = WebPDecoder::new(Cursor::new(bytes)).expect("our own file");
        assert_eq!(decoder.dimensions(), (SIZE.width, SIZE.height));
        let mut decoded = vec![0; pixels().len()];
        decoder.read_image(&mut decoded).expect("our own file");
        assert!(decoded == pixels());
    }

    #[test]
    fn a_jpeg_decodes_to_nearly_the_same_pixels() {
        let bytes = encode_jpeg(SIZE, &pixels()).expect("a small picture");
        let mut decoder = JpegDecoder::new(ZCursor::new(bytes));
        let decoded = decoder.decode().expect("our own file");
        assert_eq!(decoder.dimensions(), Some((67, 45)));
        assert_eq!(decoded.len(), pixels().len());
        let errors = decoded.iter().zip(pixels());
        let sum: u32 = errors.map(|(a, b)| u32::from(a.abs_diff(b))).sum();
        let mean = f64::from(sum) / decoded.len() as f64;
        assert!(mean < 3.0, "mean error {mean} of 255");
    }

    #[test]
    fn a_side_that_jpeg_cannot_state_is_an_error() {
        let size = PictureSize {
            width: 65_536,
            height: 1,
        };
        let error = encode_jpeg(size, &[]).expect_err("too wide");
        assert!(error.to_string().contains("65536"), "{error}");
    }
}
