//! The bytes of a picture's file: the same for the command line and for every door.

use ipc_protocol::units::PictureSize;

pub use super::encode_error::EncodeError;
use super::format::{PictureFormat, Quality};
use super::receipt::Receipt;
use super::xmp::Packet;
use super::{jpeg, png_file, webp};

/// The metadata of a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Metadata {
    /// Nothing.
    None,
    /// The picture was generated: for previews, which no receipt describes.
    Mark,
    /// The picture was generated, and from these inputs.
    Receipt(Box<Receipt>),
}

impl Metadata {
    /// The receipt and the mark, or nothing if metadata is off.
    pub fn of(receipt: Receipt, wanted: bool) -> Self {
        match wanted {
            true => Self::Receipt(Box::new(receipt)),
            false => Self::None,
        }
    }
}

/// Returns the bytes of a file: a function of the pixels, the format, the quality and the metadata alone. Nothing may
/// change them afterwards.
///
/// `rgb8` are rows from the top, three bytes a pixel.
///
/// # Errors
/// The pixels do not fit the size, or the format cannot hold the picture.
pub fn file(
    size: PictureSize,
    rgb8: &[u8],
    format: PictureFormat,
    quality: Quality,
    metadata: &Metadata,
) -> Result<Vec<u8>, EncodeError> {
    let bytes = rgb8.len();
    if bytes as u64 != size.rgb8_bytes() || bytes == 0 {
        return Err(EncodeError::Pixels { size, bytes });
    }
    let receipt = match metadata {
        Metadata::None | Metadata::Mark => None,
        Metadata::Receipt(receipt) => Some(receipt.json()?),
    };
    let packet = match metadata {
        Metadata::None => None,
        Metadata::Mark | Metadata::Receipt(_) => Some(Packet {
            receipt: receipt.as_deref().filter(|_| format != PictureFormat::Png),
            quality: is_lossy(format, quality).then_some(quality),
        }),
    };
    match format {
        PictureFormat::Png => png_file::encode(size, rgb8, packet, receipt.as_deref()),
        PictureFormat::Jpeg => jpeg::encode(size, rgb8, quality, packet),
        PictureFormat::Webp => webp::encode(size, rgb8, quality, packet),
    }
}

/// Whether files of this format and quality lose some of the pixels' exact values.
pub fn is_lossy(format: PictureFormat, quality: Quality) -> bool {
    match format {
        PictureFormat::Png => false,
        PictureFormat::Jpeg => true,
        PictureFormat::Webp => quality < Quality::BEST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::xmp::GENERATED;

    const FORMATS: [PictureFormat; 3] =
        [PictureFormat::Png, PictureFormat::Jpeg, PictureFormat::Webp];
    const SIZE: PictureSize = PictureSize {
        width: 3,
        height: 2,
    };

    fn of(format: PictureFormat, metadata: &Metadata) -> Vec<u8> {
        file(SIZE, &[7; 18], format, Quality::of(format), metadata).expect("small")
    }

    fn contains(bytes: &[u8], text: &str) -> bool {
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    }

    #[test]
    fn every_format_has_the_mark_unless_metadata_is_off() {
        for format in FORMATS {
            assert!(
                contains(&of(format, &Metadata::Mark), GENERATED),
                "{format:?}"
            );
            let bare = of(format, &Metadata::None);
            for word in ["xmp", "imagepool", "http"] {
                assert!(!contains(&bare, word), "{format:?}: {word}");
            }
        }
    }

    #[test]
    fn pixels_that_do_not_fit_the_size_are_an_error() {
        for format in FORMATS {
            for bytes in [0, 17, 19] {
                let encoded = file(
                    SIZE,
                    &vec![0; bytes],
                    format,
                    Quality::BEST,
                    &Metadata::Mark,
                );
                assert!(
                    matches!(encoded, Err(EncodeError::Pixels { .. })),
                    "{bytes}"
                );
            }
            let empty = PictureSize {
                width: 0,
                height: 2,
            };
            assert!(file(empty, &[], format, Quality::BEST, &Metadata::None).is_err());
        }
    }
}
