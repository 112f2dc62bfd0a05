//! Writes and reads a PNG: the receipt in a text chunk of its own, the mark as an XMP packet.

use std::io::Cursor;

use ipc_protocol::units::PictureSize;
use png::{BitDepth, ColorType, Compression, DecodingError, Reader};

use super::decoded_file::{self, DecodedFile, FilePixels};
use super::encode_error::EncodeError;
use super::receipt::{self, Receipt, Refusal};
use super::xmp::{self, Packet};

/// Largest picture with the better compression, in pixels. It takes a few milliseconds up to here, and 150 to 370 ms for
/// 1024x1024, where the fast one takes 20 and files are at most a tenth larger.
const SMALL_PIXELS_MAX: u64 = 256 * 256;

/// Encodes pixels without loss.
pub(super) fn encode(
    size: PictureSize,
    rgb8: &[u8],
    packet: Option<Packet<'_>>,
    receipt: Option<&str>,
) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, size.width, size.height);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(match size.pixels() <= SMALL_PIXELS_MAX {
        true => Compression::Balanced,
        false => Compression::Fast,
    });
    if let Some(receipt) = receipt {
        encoder.add_itxt_chunk(receipt::KEYWORD.into(), receipt.into())?;
    }
    if let Some(packet) = packet {
        encoder.add_itxt_chunk(xmp::PNG_KEYWORD.into(), packet.whole())?;
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rgb8)?;
    writer.finish()?;
    Ok(bytes)
}

/// Reads a PNG and its receipt.
///
/// # Errors
/// The file is not a valid PNG, or has no valid receipt.
pub(super) fn decode(bytes: &[u8]) -> Result<DecodedFile, Refusal> {
    let mut reader = png::Decoder::new(Cursor::new(bytes))
        .read_info()
        .map_err(no_png)?;
    let size = PictureSize {
        width: reader.info().width,
        height: reader.info().height,
    };
    decoded_file::check_size(size)?;
    let rgb8 = pixels(&mut reader).map_err(no_png)?;
    // The receipt may follow the pixels.
    reader.finish().map_err(no_png)?;
    let receipt = receipt_of(reader.info())?;
    Ok(DecodedFile {
        size,
        pixels: FilePixels::Exact(rgb8.ok_or_else(decoded_file::not_rgb8)?),
        receipt,
    })
}

fn no_png(error: DecodingError) -> Refusal {
    Refusal::new(format!(
        "is not a valid PNG ({error}); only PNG, JPEG and WebP files have a receipt"
    ))
}

/// Decodes the pixels; `None` if they are not 8-bit RGB.
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

/// Returns the file's only receipt, decompressed to at most [`receipt::BYTES_MAX`] bytes.
fn receipt_of(info: &png::Info<'_>) -> Result<Receipt, Refusal> {
    let mut chunks = info
        .utf8_text
        .iter()
        .filter(|chunk| chunk.keyword == receipt::KEYWORD);
    let chunk = chunks.next().ok_or_else(decoded_file::no_receipt)?;
    if chunks.next().is_some() {
        return Err(Refusal::new("has more than one receipt"));
    }
    let mut chunk = chunk.clone();
    let text = chunk
        .decompress_text_with_limit(receipt::BYTES_MAX)
        .and_then(|()| chunk.get_text())
        .map_err(|error| Refusal::new(format!("its receipt cannot be decompressed: {error}")))?;
    Receipt::parse(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIPT: &str = r#"{"prompt":"a fox","model":"pocket-flux","weights":"d","seed":1,"steps":4,"guidance":0.0,"size":"2x1","sampler":"euler","dtype":"f32","version":"0.1.0"}"#;

    /// A PNG of two pixels with this colour type and these chunks (text, whether compressed).
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
    fn pixels_and_receipt_are_read_back() {
        for packed in [false, true] {
            let drawn = decode(&file(ColorType::Rgb, &[(RECEIPT, packed)])).expect("ours");
            assert_eq!(drawn.pixels, FilePixels::Exact(vec![1, 2, 3, 4, 5, 6]));
            assert_eq!(drawn.size.to_string(), "2x1");
            assert_eq!(drawn.receipt.prompt, "a fox");
        }
    }

    #[test]
    fn an_invalid_file_is_refused_with_the_reason() {
        let none = file(ColorType::Rgb, &[]);
        assert!(refused(&none).contains("has no receipt"));
        let two = file(ColorType::Rgb, &[(RECEIPT, false), (RECEIPT, false)]);
        assert!(refused(&two).contains("more than one"));
        let gray = file(ColorType::Grayscale, &[(RECEIPT, false)]);
        assert!(refused(&gray).contains("8-bit RGB"));
        let nonsense = file(ColorType::Rgb, &[("{}", false)]);
        assert!(refused(&nonsense).starts_with("prompt: "));
        let whole = file(ColorType::Rgb, &[(RECEIPT, false)]);
        for bytes in [&b""[..], b"GIF89a", &whole[..whole.len() - 20]] {
            assert!(refused(bytes).contains("is not a valid PNG"), "{bytes:?}");
        }
    }

    #[test]
    fn a_receipt_is_not_decompressed_beyond_its_limit() {
        let bomb = " ".repeat(receipt::BYTES_MAX + 1);
        let packed = file(ColorType::Rgb, &[(&bomb, true)]);
        assert!(packed.len() < 10_000, "{} bytes", packed.len());
        assert!(refused(&packed).contains("cannot be decompressed"));
        let plain = file(ColorType::Rgb, &[(&bomb, false)]);
        assert!(refused(&plain).contains("more than the"));
    }

    #[test]
    fn a_too_large_picture_is_refused_before_memory_is_allocated() {
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
