//! Reads a picture file: its pixels and its receipt.

use std::fs::File;
use std::io::Read;
use std::path::Path;

pub use super::decoded_file::{DecodedFile, FilePixels};
use super::receipt::Refusal;
use super::{jpeg, png_file, webp};

/// Longest file that is read, in bytes; four times the largest picture that a model draws.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Reads a picture and its receipt.
///
/// # Errors
/// The file is not a valid PNG, JPEG or WebP, or has no valid receipt; the message names the file.
pub fn read(path: &Path) -> Result<DecodedFile, Refusal> {
    let named = |refusal: Refusal| match refusal.field {
        Some(_) => Refusal {
            message: format!("{} ({})", refusal.message, path.display()),
            ..refusal
        },
        None => Refusal::new(format!("{}: {}", path.display(), refusal.message)),
    };
    bytes(path).and_then(decode).map_err(named)
}

fn bytes(path: &Path) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| Refusal::new(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Refusal::new(format!(
            "is longer than {FILE_BYTES_MAX} bytes, the limit of a picture file"
        )));
    }
    Ok(bytes)
}

/// Reads the bytes of a picture file.
///
/// # Errors
/// As [`read`], without the name of a file.
pub fn decode(bytes: Vec<u8>) -> Result<DecodedFile, Refusal> {
    match bytes.as_slice() {
        [0xff, 0xd8, ..] => jpeg::decode(bytes),
        [b'R', b'I', b'F', b'F', ..] => webp::decode(bytes),
        _ => png_file::decode(&bytes),
    }
}

#[cfg(test)]
mod tests {
    use ipc_protocol::units::PictureSize;

    use super::*;
    use crate::picture::decoded_file::PIXELS_MAX;
    use crate::picture::file::{Metadata, file, is_lossy};
    use crate::picture::format::{PictureFormat, Quality};
    use crate::picture::receipt::Receipt;

    const SIZE: PictureSize = PictureSize {
        width: 19,
        height: 13,
    };

    fn receipt(prompt: &str) -> Receipt {
        Receipt {
            prompt: prompt.into(),
            negative: Some("<fog> & \"mist\" ]]>".into()),
            model: "pocket-flux".into(),
            weights: "d".into(),
            seed: 1,
            steps: 4,
            guidance: 0.0,
            size: SIZE.to_string(),
            sampler: "euler".into(),
            dtype: "f32".into(),
            prompt_cut: false,
            version: "0.1.0".into(),
        }
    }

    fn pixels() -> Vec<u8> {
        let count = SIZE.rgb8_bytes() as u32;
        (0..count).map(|nth| (nth * nth / 7 % 251) as u8).collect()
    }

    /// A file of each format and kind of quality.
    fn files(metadata: &Metadata) -> Vec<(PictureFormat, Quality, Vec<u8>)> {
        let low = Quality::new(70).expect("from 1 to 100");
        let of = |(format, quality)| {
            let bytes = file(SIZE, &pixels(), format, quality, metadata).expect("small");
            (format, quality, bytes)
        };
        [
            (PictureFormat::Png, Quality::BEST),
            (PictureFormat::Jpeg, low),
            (PictureFormat::Jpeg, Quality::BEST),
            (PictureFormat::Webp, Quality::BEST),
            (PictureFormat::Webp, low),
        ]
        .map(of)
        .to_vec()
    }

    fn with_receipt(prompt: &str) -> Metadata {
        Metadata::of(receipt(prompt), true)
    }

    #[test]
    fn the_receipt_is_read_back_from_every_format_and_the_pixels_from_lossless_ones() {
        // The last prompt needs several segments of a JPEG.
        let long = "&\u{1}\u{ffff}é<".repeat(6000);
        for prompt in ["a fox", "\"'&<>\\\n\r\t\u{7f}\u{85}\u{fffe}🦊", &long] {
            for (format, quality, bytes) in files(&with_receipt(prompt)) {
                let drawn = decode(bytes.clone()).expect("ours");
                assert_eq!(drawn.receipt, receipt(prompt), "{format:?}");
                assert_eq!(drawn.size, SIZE);
                let expected = match is_lossy(format, quality) {
                    false => FilePixels::Exact(pixels()),
                    true => FilePixels::Lossy {
                        format,
                        quality,
                        file: bytes,
                    },
                };
                assert!(drawn.pixels == expected, "{format:?}");
            }
        }
    }

    #[test]
    fn a_file_without_a_receipt_is_refused_and_a_preview_has_none() {
        for metadata in [Metadata::None, Metadata::Mark] {
            for (format, _, bytes) in files(&metadata) {
                let refusal = decode(bytes).expect_err("no receipt").to_string();
                assert!(
                    refusal.starts_with("has no receipt"),
                    "{format:?}: {refusal}"
                );
            }
        }
    }

    #[test]
    fn a_damaged_file_is_refused_or_read_and_never_panics() {
        for (format, _, bytes) in files(&with_receipt("a fox")) {
            for length in 0..bytes.len() {
                let read = decode(bytes[..length].to_vec());
                // A JPEG's and a WebP's end has no receipt any more, so a cut there need not be found.
                assert!(
                    read.is_err() || length + 32 > bytes.len() || format == PictureFormat::Jpeg
                );
            }
            for place in 0..bytes.len() {
                for value in [0, 0xff, bytes[place] ^ 0x10] {
                    let mut damaged = bytes.clone();
                    damaged[place] = value;
                    if let Ok(read) = decode(damaged) {
                        assert!(read.size.pixels() <= PIXELS_MAX);
                    }
                }
            }
        }
    }

    #[test]
    fn a_huge_picture_is_refused_before_memory_is_allocated() {
        let files = files(&with_receipt("a fox"));
        let mut jpeg = files[1].2.clone();
        let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]);
        let frame = frame.expect("a baseline JPEG has a frame header");
        jpeg[frame + 5..frame + 9].fill(0xff);
        let mut webp = files[3].2.clone();
        let canvas = 12 + 8 + 4; // after the file's header, the chunk's, and the flags
        webp[canvas..canvas + 6].copy_from_slice(&[0xff, 0x3f, 0, 0xff, 0x3f, 0]);
        for bytes in [jpeg, webp] {
            let refusal = decode(bytes).expect_err("too large").to_string();
            assert!(refusal.contains("more than any model draws"), "{refusal}");
        }
    }
}
