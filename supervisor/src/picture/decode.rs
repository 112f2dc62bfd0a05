//! A picture's file as a picture again: its pixels, and the receipt in it.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use ipc_protocol::units::PictureSize;
use png::{BitDepth, ColorType, DecodingError, Reader};

use super::receipt::{self, Receipt, Refusal};

/// Longest file that is read; the largest picture that is drawn has a quarter of it.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Pixels of the largest picture whose pixels are looked at.
const PIXELS_MAX: u64 = 4096 * 4096;

/// What was drawn once.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedFile {
    /// Pixels.
    pub size: PictureSize,
    /// Rows from the top, three bytes a pixel.
    pub rgb8: Vec<u8>,
    /// What it depends on.
    pub receipt: Receipt,
}

/// Reads a picture and its receipt.
///
/// # Errors
/// A sentence that names the file: it is no PNG, or has no receipt that could be followed.
pub fn read(path: &Path) -> Result<DecodedFile, Refusal> {
    let named = |refusal: Refusal| match refusal.field {
        Some(_) => Refusal {
            message: format!("{} ({})", refusal.message, path.display()),
            ..refusal
        },
        None => Refusal::new(format!("{}: {}", path.display(), refusal.message)),
    };
    bytes(path).and_then(|bytes| decode(&bytes)).map_err(named)
}

fn bytes(path: &Path) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| Refusal::new(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Refusal::new(format!(
            "has more than the {FILE_BYTES_MAX} bytes that are read"
        )));
    }
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<DecodedFile, Refusal> {
    let mut reader = png::Decoder::new(Cursor::new(bytes))
        .read_info()
        .map_err(no_png)?;
    let size = PictureSize {
        width: reader.info().width,
        height: reader.info().height,
    };
    if size.pixels() > PIXELS_MAX {
        let message = format!("its {size} pixels are more than this program draws");
        return Err(Refusal::new(message));
    }
    let rgb8 = pixels(&mut reader).map_err(no_png)?;
    // The receipt may also stand behind the pixels.
    reader.finish().map_err(no_png)?;
    let receipt = receipt(reader.info())?;
    let rgb8 = rgb8.ok_or_else(|| {
        Refusal::new(
            "another program changed how its pixels are kept; a drawn picture is 8-bit RGB",
        )
    })?;
    Ok(DecodedFile {
        size,
        rgb8,
        receipt,
    })
}

fn no_png(error: DecodingError) -> Refusal {
    Refusal::new(format!(
        "is no PNG that can be read ({error}); only PNG files carry a receipt"
    ))
}

/// The pixels as we write them; `None` where they are of another kind.
fn pixels(reader: &mut Reader<Cursor<&[u8]>>) -> Result<Option<Vec<u8>>, DecodingError> {
    if reader.output_color_type() != (ColorType::Rgb, BitDepth::Eight) {
        return Ok(None);
    }
    let Some(length) = reader.output_buffer_size() else {
        return Ok(None);
    };
    let mut rgb8 = vec![0; length];
    reader.next_frame(&mut rgb8)?;
    Ok(Some(rgb8))
}

/// The one receipt of a file, unpacked within its bounds.
fn receipt(info: &png::Info<'_>) -> Result<Receipt, Refusal> {
    let mut chunks = info
        .utf8_text
        .iter()
        .filter(|chunk| chunk.keyword == receipt::KEYWORD);
    let Some(chunk) = chunks.next() else {
        return Err(Refusal::new(
            "holds no receipt: it was drawn with --no-metadata, or by or through another program",
        ));
    };
    if chunks.next().is_some() {
        return Err(Refusal::new("holds more than one receipt"));
    }
    let mut chunk = chunk.clone();
    let text = chunk
        .decompress_text_with_limit(receipt::BYTES_MAX)
        .and_then(|()| chunk.get_text())
        .map_err(|error| Refusal::new(format!("its receipt cannot be unpacked: {error}")))?;
    Receipt::parse(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIPT: &str = r#"{"prompt":"a fox","model":"pocket-flux","weights":"d","seed":1,"steps":4,"guidance":0.0,"size":"2x1","sampler":"euler","dtype":"f32","version":"0.1.0"}"#;

    /// A picture of two pixels with these chunks (text, packed) and this kind of pixels.
    fn file(color: ColorType, chunks: &[(&str, bool)]) -> Vec<u8> {
        let mut info = png::Info::with_size(2, 1);
        info.color_type = color;
        info.bit_depth = BitDepth::Eight;
        for (text, packed) in chunks {
            let mut chunk = png::text_metadata::ITXtChunk::new(receipt::KEYWORD, *text);
            chunk.compressed = *packed;
            info.utf8_text.push(chunk);
        }
        let mut bytes = Vec::new();
        let encoder = png::Encoder::with_info(&mut bytes, info).expect("a plain picture");
        let mut writer = encoder.write_header().expect("memory takes it");
        let data: Vec<u8> = (1..=2 * color.samples() as u8).collect();
        writer.write_image_data(&data).expect("memory takes it");
        writer.finish().expect("memory takes it");
        bytes
    }

    fn refused(bytes: &[u8]) -> String {
        decode(bytes)
            .expect_err("it cannot be followed")
            .to_string()
    }

    #[test]
    fn pixels_and_receipt_come_out_as_they_went_in() {
        for packed in [false, true] {
            let drawn = decode(&file(ColorType::Rgb, &[(RECEIPT, packed)])).expect("ours");
            assert_eq!(drawn.rgb8, [1, 2, 3, 4, 5, 6]);
            assert_eq!(drawn.size.to_string(), "2x1");
            assert_eq!(drawn.receipt.prompt, "a fox");
        }
    }

    #[test]
    fn a_file_that_cannot_be_followed_says_why() {
        let none = file(ColorType::Rgb, &[]);
        assert!(refused(&none).contains("holds no receipt"));
        let two = file(ColorType::Rgb, &[(RECEIPT, false), (RECEIPT, false)]);
        assert!(refused(&two).contains("more than one"));
        let gray = file(ColorType::Grayscale, &[(RECEIPT, false)]);
        assert!(refused(&gray).contains("8-bit RGB"));
        let nonsense = file(ColorType::Rgb, &[("{}", false)]);
        assert!(refused(&nonsense).starts_with("prompt: "));
        let whole = file(ColorType::Rgb, &[(RECEIPT, false)]);
        for bytes in [&b""[..], b"GIF89a", &whole[..whole.len() - 20]] {
            assert!(refused(bytes).contains("is no PNG"), "{bytes:?}");
        }
    }

    #[test]
    fn a_receipt_that_unpacks_to_more_than_any_has_is_not_unpacked() {
        let bomb = " ".repeat(receipt::BYTES_MAX + 1);
        let packed = file(ColorType::Rgb, &[(&bomb, true)]);
        assert!(packed.len() < 10_000, "{} bytes", packed.len());
        assert!(refused(&packed).contains("cannot be unpacked"));
        let plain = file(ColorType::Rgb, &[(&bomb, false)]);
        assert!(refused(&plain).contains("more than the"));
    }

    #[test]
    fn a_size_that_nobody_draws_is_refused_before_there_is_room_for_it() {
        let mut info = png::Info::with_size(4097, 4096);
        info.color_type = ColorType::Rgb;
        let mut bytes = Vec::new();
        let encoder = png::Encoder::with_info(&mut bytes, info).expect("a header");
        let mut writer = encoder.write_header().expect("memory takes it");
        writer
            .write_chunk(png::chunk::IDAT, b"never looked at")
            .expect("memory takes it");
        drop(writer);
        assert!(refused(&bytes).contains("4097x4096 pixels are more"));
    }
}
