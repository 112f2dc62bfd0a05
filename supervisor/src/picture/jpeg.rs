//! Writes a JPEG, and reads the size and the receipt of one without decoding its pixels.

use ipc_protocol::units::PictureSize;
use jpeg_encoder::{Encoder, SamplingFactor};

use super::decoded_file::{self, DecodedFile, FilePixels};
use super::encode_error::EncodeError;
use super::format::{PictureFormat, Quality};
use super::receipt::{Receipt, Refusal};
use super::xmp::{self, Packet};

/// Most pixels of a side, as the format counts them.
const SIDE_MAX: u32 = 65_535;
/// Number of the segments that contain XMP.
const APP1: u8 = 1;
/// Most bytes of a segment, without its length.
const SEGMENT_BYTES_MAX: usize = 65_533;
/// First bytes of a segment with the XMP packet, and of one with a piece of the extended packet.
const STANDARD: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
const EXTENDED: &[u8] = b"http://ns.adobe.com/xmp/extension/\0";
/// Bytes of a piece's header after [`EXTENDED`]: the digest, the length of the whole, the offset of the piece.
const PIECE_HEADER: usize = xmp::GUID_BYTES + 4 + 4;

/// Encodes with full colour resolution: subsampling blurs the edges of coloured shapes.
pub(super) fn encode(
    size: PictureSize,
    rgb8: &[u8],
    quality: Quality,
    packet: Option<Packet<'_>>,
) -> Result<Vec<u8>, EncodeError> {
    let side = |side: u32| {
        u16::try_from(side).map_err(|_| EncodeError::Side {
            format: "JPEG",
            side,
            most: SIDE_MAX,
        })
    };
    let (width, height) = (side(size.width)?, side(size.height)?);
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, quality.get());
    encoder.set_sampling_factor(SamplingFactor::R_4_4_4);
    for segment in packet.iter().flat_map(segments) {
        encoder.add_app_segment(APP1, segment)?;
    }
    encoder.encode(rgb8, width, height, jpeg_encoder::ColorType::Rgb)?;
    Ok(bytes)
}

/// The segments of a packet. One that is longer than a segment is divided as XMP's part 3 defines: the receipt goes
/// into an extended packet, in pieces that name its digest.
fn segments(packet: &Packet<'_>) -> Vec<Vec<u8>> {
    let whole = packet.whole();
    if STANDARD.len() + whole.len() <= SEGMENT_BYTES_MAX {
        return vec![[STANDARD, whole.as_bytes()].concat()];
    }
    let extension = packet.extension();
    let guid = xmp::guid(&extension);
    let mut segments = vec![[STANDARD, packet.extended_by(&guid).as_bytes()].concat()];
    let piece_bytes = SEGMENT_BYTES_MAX - EXTENDED.len() - PIECE_HEADER;
    let whole = (extension.len() as u32).to_be_bytes();
    for (nth, piece) in extension.as_bytes().chunks(piece_bytes).enumerate() {
        let offset = ((nth * piece_bytes) as u32).to_be_bytes();
        segments.push([EXTENDED, guid.as_bytes(), &whole, &offset, piece].concat());
    }
    segments
}

/// Reads the size and the receipt of a JPEG.
///
/// # Errors
/// The segments before the compressed pixels are damaged, or they have no valid receipt.
pub(super) fn decode(bytes: Vec<u8>) -> Result<DecodedFile, Refusal> {
    let header = header(&bytes)?;
    decoded_file::check_size(header.size)?;
    let receipt = match xmp::receipt_in(&header.packet)? {
        Some(receipt) => receipt,
        None => xmp::receipt_in(&header.extension)?.ok_or_else(decoded_file::no_receipt)?,
    };
    let quality = xmp::quality_in(&header.packet)?;
    Ok(DecodedFile {
        size: header.size,
        receipt: Receipt::parse(&receipt)?,
        pixels: FilePixels::Lossy {
            format: PictureFormat::Jpeg,
            quality: quality.ok_or_else(|| Refusal::new("its XMP packet names no quality"))?,
            file: bytes,
        },
    })
}

/// The size and the XMP of a JPEG file.
struct JpegHeader {
    size: PictureSize,
    /// The packet; empty if there is none.
    packet: String,
    /// The extended packet; empty if there is none.
    extension: String,
}

/// Reads the segments before the compressed pixels.
///
/// # Errors
/// The segments are damaged, or the XMP is contradictory.
fn header(bytes: &[u8]) -> Result<JpegHeader, Refusal> {
    let damaged = |what: &str| Refusal::new(format!("is not a valid JPEG ({what})"));
    let mut rest = bytes
        .strip_prefix(&[0xff, 0xd8])
        .ok_or_else(|| damaged("it does not begin like one"))?;
    let (mut size, mut packet, mut extension) = (None, None, Extension::default());
    loop {
        let (marker, segment, after) =
            segment(rest).ok_or_else(|| damaged("it ends within a segment"))?;
        rest = after;
        match marker {
            0xda | 0xd9 => break,
            // Frames, but not Huffman tables, extensions and arithmetic tables.
            0xc0..=0xcf if ![0xc4, 0xc8, 0xcc].contains(&marker) => {
                let frame = frame(segment).ok_or_else(|| damaged("its size is missing"))?;
                size.get_or_insert(frame);
            }
            0xe1 if segment.starts_with(STANDARD) => {
                let text = &segment[STANDARD.len()..];
                if packet.replace(text.to_vec()).is_some() {
                    return Err(Refusal::new("has more than one XMP packet"));
                }
            }
            0xe1 if segment.starts_with(EXTENDED) => extension.take(&segment[EXTENDED.len()..])?,
            _ => {}
        }
    }
    let size = size.ok_or_else(|| damaged("it has no picture"))?;
    let packet = xmp::text(packet.unwrap_or_default())?;
    let extension = xmp::text(extension.of_packet(&packet)?)?;
    Ok(JpegHeader {
        size,
        packet,
        extension,
    })
}

/// The next marker, its segment without the length, and everything after it; `None` if the file ends before.
fn segment(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (0xff, mut rest) = bytes.split_first().map(|(byte, rest)| (*byte, rest))? else {
        return None;
    };
    // A marker may follow several fill bytes.
    while let [0xff, after @ ..] = rest {
        rest = after;
    }
    let (marker, rest) = rest.split_first()?;
    if matches!(marker, 0x01 | 0xd0..=0xd9) {
        return Some((*marker, &[], rest));
    }
    let (length, _) = rest.split_first_chunk::<2>()?;
    let (segment, after) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    Some((*marker, segment.get(2..)?, after))
}

/// The size in a frame header of three components; `None` for another one.
fn frame(segment: &[u8]) -> Option<PictureSize> {
    let [8, height_1, height_2, width_1, width_2, 3, ..] = *segment else {
        return None;
    };
    let side = |bytes| u32::from(u16::from_be_bytes(bytes));
    let (width, height) = (side([width_1, width_2]), side([height_1, height_2]));
    (width > 0 && height > 0).then_some(PictureSize { width, height })
}

/// The pieces of an extended packet in the order of the file.
#[derive(Debug, Default)]
struct Extension {
    guid: Vec<u8>,
    whole: usize,
    bytes: Vec<u8>,
}

impl Extension {
    /// Adds a piece; pieces of another packet or at another place are refused, so the sum of all pieces bounds the
    /// memory.
    fn take(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        let refused =
            || Refusal::new("has an extended XMP packet whose pieces do not fit together");
        let (guid, rest) = piece
            .split_at_checked(xmp::GUID_BYTES)
            .ok_or_else(refused)?;
        let (whole, rest) = rest.split_first_chunk::<4>().ok_or_else(refused)?;
        let (offset, bytes) = rest.split_first_chunk::<4>().ok_or_else(refused)?;
        let (whole, offset) = (u32::from_be_bytes(*whole), u32::from_be_bytes(*offset));
        if self.guid.is_empty() {
            (self.guid, self.whole) = (guid.to_vec(), whole as usize);
        }
        let fits = self.guid == guid
            && self.whole == whole as usize
            && self.bytes.len() == offset as usize
            && self.bytes.len() + bytes.len() <= self.whole;
        if !fits {
            return Err(refused());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// The bytes of the extended packet that `packet` names.
    fn of_packet(self, packet: &str) -> Result<Vec<u8>, Refusal> {
        let guid = String::from_utf8(self.guid).unwrap_or_default();
        if guid.is_empty() || !packet.contains(&guid) {
            return Ok(Vec::new());
        }
        if self.bytes.len() != self.whole {
            return Err(Refusal::new(
                "has an extended XMP packet with pieces missing",
            ));
        }
        Ok(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use zune_jpeg::JpegDecoder;
    use zune_jpeg::zune_core::bytestream::ZCursor;

    use super::*;

    /// Its sides are not multiples of a block.
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

    fn encoded(quality: u8, receipt: Option<&str>) -> Vec<u8> {
        let quality = Quality::new(quality).expect("from 1 to 100");
        let packet = Packet {
            receipt,
            quality: Some(quality),
        };
        encode(SIZE, &pixels(), quality, Some(packet)).expect("a small picture")
    }

    /// Mean error of a decoded file, of 255.
    fn error(bytes: Vec<u8>) -> f64 {
        let mut decoder = JpegDecoder::new(ZCursor::new(bytes));
        let decoded = decoder.decode().expect("our own file");
        assert_eq!(decoder.dimensions(), Some((67, 45)));
        assert_eq!(decoded.len(), pixels().len());
        let errors = decoded.iter().zip(pixels());
        let sum: u32 = errors.map(|(a, b)| u32::from(a.abs_diff(b))).sum();
        f64::from(sum) / decoded.len() as f64
    }

    #[test]
    fn a_better_quality_is_larger_and_closer_to_the_pixels() {
        let files = [20, 60, 92, 100].map(|quality| encoded(quality, None));
        assert!(files.is_sorted_by_key(Vec::len));
        let errors = files.map(error);
        assert!(errors.is_sorted_by(|a, b| a > b), "{errors:?}");
        assert!(errors[2] < 3.0 && errors[3] < 1.0, "{errors:?}");
    }

    #[test]
    fn a_side_that_jpeg_cannot_state_is_an_error() {
        let size = PictureSize {
            width: 65_536,
            height: 1,
        };
        let error = encode(size, &[], Quality::BEST, None).expect_err("too wide");
        assert!(error.to_string().contains("65536"), "{error}");
    }

    #[test]
    fn a_receipt_longer_than_a_segment_goes_into_an_extended_packet() {
        let receipt = "x".repeat(200_000);
        let bytes = encoded(92, Some(&receipt));
        let header = header(&bytes).expect("ours");
        assert_eq!(xmp::receipt_in(&header.packet), Ok(None));
        assert_eq!(xmp::receipt_in(&header.extension), Ok(Some(receipt)));
        assert!(header.packet.contains(xmp::GENERATED));
        assert!(header.packet.contains(&xmp::guid(&header.extension)));
        assert!(error(bytes) < 3.0);
    }

    #[test]
    fn pieces_that_do_not_fit_together_are_refused() {
        let whole = encoded(92, Some(&"x".repeat(200_000)));
        let places: Vec<usize> = whole
            .windows(EXTENDED.len())
            .enumerate()
            .filter(|(_, bytes)| *bytes == EXTENDED)
            .map(|(place, _)| place + EXTENDED.len())
            .collect();
        assert_eq!(places.len(), 4);
        let changes: [fn(&mut [u8]); 3] = [
            |piece| piece[0] ^= 1,
            |piece| piece[xmp::GUID_BYTES + 2] ^= 1,
            |piece| piece[xmp::GUID_BYTES + 6] ^= 1,
        ];
        for change in changes {
            let mut bytes = whole.clone();
            change(&mut bytes[places[1]..]);
            let refusal = header(&bytes).err().expect("damaged").to_string();
            assert!(refusal.contains("do not fit together"), "{refusal}");
        }
    }
}
