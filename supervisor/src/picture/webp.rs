//! Writes and reads a WebP.

use std::io::Cursor;

use image_webp::{ColorType, DecodingError, WebPDecoder, WebPEncoder};
use ipc_protocol::units::PictureSize;

use super::decoded_file::{self, DecodedFile, FilePixels};
use super::encode_error::EncodeError;
use super::format::{PictureFormat, Quality};
use super::receipt::{Receipt, Refusal};
use super::vp8;
use super::xmp::{self, Packet};

/// Most pixels of a side, as lossless and lossy files count them in 14 bits.
const LOSSLESS_SIDE_MAX: u32 = 1 << 14;
const LOSSY_SIDE_MAX: u32 = (1 << 14) - 1;

/// Flag of a file with XMP.
const HAS_XMP: u8 = 1 << 2;

/// Encodes without loss at the best quality, else with losses.
pub(super) fn encode(
    size: PictureSize,
    rgb8: &[u8],
    quality: Quality,
    packet: Option<Packet<'_>>,
) -> Result<Vec<u8>, EncodeError> {
    let is_lossy = quality < Quality::BEST;
    let most = if is_lossy {
        LOSSY_SIDE_MAX
    } else {
        LOSSLESS_SIDE_MAX
    };
    for side in [size.width, size.height] {
        if side > most {
            return Err(EncodeError::Side {
                format: "WebP",
                side,
                most,
            });
        }
    }
    if is_lossy {
        let frame = vp8::encode(size, rgb8, quality).ok_or(EncodeError::WebpModes(size))?;
        let packet = packet.map(|packet| packet.whole());
        return Ok(contained(size, &frame, packet.as_deref()));
    }
    let mut bytes = Vec::new();
    let mut encoder = WebPEncoder::new(&mut bytes);
    if let Some(packet) = packet {
        encoder.set_xmp_metadata(packet.whole().into_bytes());
    }
    encoder.encode(rgb8, size.width, size.height, ColorType::Rgb8)?;
    Ok(bytes)
}

/// A file with a lossy frame.
fn contained(size: PictureSize, frame: &[u8], packet: Option<&str>) -> Vec<u8> {
    let mut chunks = Vec::new();
    if let Some(packet) = packet {
        let side = |pixels: u32| (pixels - 1).to_le_bytes();
        let (width, height) = (side(size.width), side(size.height));
        let canvas = [&[HAS_XMP, 0, 0, 0], &width[..3], &height[..3]].concat();
        push_chunk(&mut chunks, b"VP8X", &canvas);
        push_chunk(&mut chunks, b"VP8 ", frame);
        push_chunk(&mut chunks, b"XMP ", packet.as_bytes());
    } else {
        push_chunk(&mut chunks, b"VP8 ", frame);
    }
    let mut file = Vec::with_capacity(chunks.len() + 12);
    push_chunk(&mut file, b"RIFF", &[b"WEBP", chunks.as_slice()].concat());
    file
}

/// Adds a chunk, with a zero after an odd length.
fn push_chunk(file: &mut Vec<u8>, name: &[u8; 4], bytes: &[u8]) {
    file.extend_from_slice(name);
    file.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    file.extend_from_slice(bytes);
    file.resize(file.len().next_multiple_of(2), 0);
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

    /// Its sides are not multiples of a macroblock.
    const SIZE: PictureSize = PictureSize {
        width: 133,
        height: 91,
    };

    /// Coloured shapes with sharp edges on a gradient, and noise in a corner.
    fn pixels() -> Vec<u8> {
        let mut random = 1u32;
        let mut pixel = |x: u32, y: u32| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let circle = (x as i32 - 90).pow(2) + (y as i32 - 40).pow(2) < 600;
            match (20..60).contains(&x) && (30..70).contains(&y) {
                true => [220, 38, 48],
                false if circle => [44, 86, 220],
                false if x > 100 && y > 60 => [0, 8, 16].map(|place| (random >> (place + 4)) as u8),
                false => [(x * 3 / 2) as u8, (y * 5 / 2) as u8, 128],
            }
        };
        let places = (0..SIZE.height).flat_map(|y| (0..SIZE.width).map(move |x| (x, y)));
        places.flat_map(|(x, y)| pixel(x, y)).collect()
    }

    fn encoded(quality: u8) -> Vec<u8> {
        let quality = Quality::new(quality).expect("from 1 to 100");
        encode(SIZE, &pixels(), quality, None).expect("a small picture")
    }

    /// Mean square error of a decoded file, of 255 squared.
    fn error(bytes: &[u8]) -> f64 {
        let mut decoder = WebPDecoder::new(Cursor::new(bytes)).expect("our own file");
        assert_eq!(decoder.dimensions(), (SIZE.width, SIZE.height));
        let mut decoded = vec![0; pixels().len()];
        decoder.read_image(&mut decoded).expect("our own file");
        let square = |(a, b): (&u8, u8)| f64::from(a.abs_diff(b)).powi(2);
        decoded.iter().zip(pixels()).map(square).sum::<f64>() / decoded.len() as f64
    }

    #[test]
    fn a_better_quality_is_larger_and_closer_to_the_pixels() {
        let files = [1, 20, 40, 60, 75, 90, 99].map(encoded);
        assert!(files.is_sorted_by_key(Vec::len));
        let errors = files.map(|file| error(&file));
        println!("{errors:?}");
        assert!(errors.is_sorted_by(|a, b| a > b), "{errors:?}");
        assert_eq!(error(&encoded(100)), 0.0, "the best quality is lossless");
    }

    #[test]
    fn a_side_that_webp_cannot_state_is_an_error() {
        let low = Quality::new(99).expect("from 1 to 100");
        for (height, quality) in [(16_385, Quality::BEST), (16_384, low)] {
            let size = PictureSize { width: 1, height };
            let error = encode(size, &[], quality, None).expect_err("too high");
            assert!(error.to_string().contains(&height.to_string()), "{error}");
        }
        let size = PictureSize {
            width: 16_383,
            height: 1,
        };
        let pixels = vec![7; size.rgb8_bytes() as usize];
        let file = encode(size, &pixels, low, None).expect("the longest side");
        let decoder = WebPDecoder::new(Cursor::new(file)).expect("our own file");
        assert_eq!(decoder.dimensions(), (16_383, 1));
    }
}
