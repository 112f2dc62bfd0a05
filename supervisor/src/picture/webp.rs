//! Writes and reads a WebP.

use std::io::Cursor;

use image_webp::{ColorType, DecodingError, WebPDecoder, WebPEncoder};
use ipc_protocol::units::PictureSize;

use super::decoded_file::{self, DecodedFile, FilePixels};
use super::encode_error::EncodeError;
use super::format::{PictureFormat, Quality};
use super::receipt::{Receipt, Refusal};
use super::xmp::{self, Packet};

/// Most pixels of a side, as the format counts them.
const SIDE_MAX: u32 = 16_384;

/// Encodes without loss.
pub(super) fn encode(
    size: PictureSize,
    rgb8: &[u8],
    _quality: Quality,
    packet: Option<Packet<'_>>,
) -> Result<Vec<u8>, EncodeError> {
    for side in [size.width, size.height] {
        if side > SIDE_MAX {
            return Err(EncodeError::Side {
                format: "WebP",
                side,
                most: SIDE_MAX,
            });
        }
    }
    let mut bytes = Vec::new();
    let mut encoder = WebPEncoder::new(&mut bytes);
    if let Some(packet) = packet {
        encoder.set_xmp_metadata(packet.whole().into_bytes());
    }
    encoder.encode(rgb8, size.width, size.height, ColorType::Rgb8)?;
    Ok(bytes)
}

/// Reads a WebP and its receipt.
///
/// # Errors
/// The file is not a valid WebP, or has no valid receipt.
pub(super) fn decode(bytes: Vec<u8>) -> Result<DecodedFile, Refusal> {
    let mut decoder = WebPDecoder::new(Cursor::new(bytes.as_slice())).map_err(no_webp)?;
    let (width, height) = decoder.dimensions();
    let size = PictureSize { width, height };
    decoded_file::check_size(size)?;
    let packet = xmp::text(packet(&bytes)?.to_vec())?;
    let receipt = xmp::receipt_in(&packet)?.ok_or_else(decoded_file::no_receipt)?;
    let receipt = Receipt::parse(&receipt)?;
    if decoder.is_animated() || decoder.has_alpha() {
        return Err(decoded_file::not_rgb8());
    }
    let pixels = if decoder.is_lossy() {
        let quality = xmp::quality_in(&packet)?;
        FilePixels::Lossy {
            format: PictureFormat::Webp,
            quality: quality.ok_or_else(|| Refusal::new("its XMP packet names no quality"))?,
            file: bytes,
        }
    } else {
        let mut rgb8 = vec![
            0;
            decoder
                .output_buffer_size()
                .ok_or_else(decoded_file::not_rgb8)?
        ];
        decoder.read_image(&mut rgb8).map_err(no_webp)?;
        FilePixels::Exact(rgb8)
    };
    Ok(DecodedFile {
        size,
        pixels,
        receipt,
    })
}

fn no_webp(error: DecodingError) -> Refusal {
    Refusal::new(format!("is not a valid WebP ({error})"))
}

/// The contents of the file's only XMP chunk.
fn packet(bytes: &[u8]) -> Result<&[u8], Refusal> {
    let mut found = None;
    let mut rest = bytes.get(12..).unwrap_or_default(); // after `RIFF`, a length and `WEBP`
    while let Some((name, after)) = rest.split_first_chunk::<4>() {
        let (length, after) = match after.split_first_chunk::<4>() {
            Some((length, after)) => (u32::from_le_bytes(*length) as usize, after),
            None => break,
        };
        let Some((chunk, after)) = after.split_at_checked(length) else {
            break; // The file ends within the chunk; its pixels say whether that matters.
        };
        if name == b"XMP " && found.replace(chunk).is_some() {
            return Err(Refusal::new("has more than one XMP packet"));
        }
        // Chunks have an even length in the file.
        rest = after.get(length % 2..).unwrap_or_default();
    }
    found.ok_or_else(decoded_file::no_receipt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_that_webp_cannot_state_is_an_error() {
        let size = PictureSize {
            width: 1,
            height: 16_385,
        };
        let error = encode(size, &[], Quality::BEST, None).expect_err("too high");
        assert!(error.to_string().contains("16385"), "{error}");
    }
}
