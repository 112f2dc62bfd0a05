//! The format of a picture file, from `--format` or from the file's extension.

use std::path::Path;

use ipc_protocol::failure::{Failure, Field};

use clap::ValueEnum;

/// The format of a picture file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PictureFormat {
    /// Lossless.
    Png,
    /// Small, with losses.
    #[value(alias = "jpg")]
    Jpeg,
    /// Smaller than PNG; lossless, or with losses at a quality below 100.
    Webp,
}

/// The quality of an encoded picture, from 1 to 100. JPEG is lossy at every quality, WebP below 100; PNG has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quality(u8);

impl Quality {
    /// The best quality; a WebP of this quality is lossless.
    pub const BEST: Self = Self(100);
    /// JPEG quality without a request; high enough that most people see no difference.
    const JPEG: Self = Self(92);

    /// Checks the range.
    pub fn new(quality: u8) -> Option<Self> {
        (1..=100).contains(&quality).then_some(Self(quality))
    }

    /// The quality of a format if none was requested. It is the same for the command line's files.
    pub fn of(format: PictureFormat) -> Self {
        match format {
            PictureFormat::Jpeg => Self::JPEG,
            PictureFormat::Png | PictureFormat::Webp => Self::BEST,
        }
    }

    /// The quality from 1 to 100.
    pub fn get(self) -> u8 {
        self.0
    }
}

/// The file extensions of the formats.
const ENDINGS: [(&str, PictureFormat); 4] = [
    ("png", PictureFormat::Png),
    ("jpg", PictureFormat::Jpeg),
    ("jpeg", PictureFormat::Jpeg),
    ("webp", PictureFormat::Webp),
];

/// Returns the requested format, else the one of the file's extension, else PNG.
///
/// # Errors
/// No format was requested, and the extension is not one of `ENDINGS`.
pub fn choose(
    asked: Option<PictureFormat>,
    output: Option<&str>,
) -> Result<PictureFormat, Failure> {
    if let Some(format) = asked {
        return Ok(format);
    }
    match output.and_then(ending) {
        None => Ok(PictureFormat::Png),
        Some(ending) => of_ending(&ending).ok_or_else(|| {
            let known = "use .png, .jpg, .jpeg or .webp, or --format";
            let message = format!(".{ending} is not a picture format: {known}");
            Failure::bad_value(Field::Output, message)
        }),
    }
}

/// Returns a warning if the file's extension does not match the format.
pub fn contradiction(format: PictureFormat, output: Option<&str>) -> Option<String> {
    let name = output?;
    let other = of_ending(&ending(name)?) != Some(format);
    other.then(|| {
        format!(
            "{name} will be written as {} in spite of its name",
            word(format)
        )
    })
}

/// The usual extension of a format's files.
pub fn extension(format: PictureFormat) -> &'static str {
    match format {
        PictureFormat::Png => "png",
        PictureFormat::Jpeg => "jpeg",
        PictureFormat::Webp => "webp",
    }
}

/// The media type of a format's files.
pub fn media_type(format: PictureFormat) -> &'static str {
    match format {
        PictureFormat::Png => "image/png",
        PictureFormat::Jpeg => "image/jpeg",
        PictureFormat::Webp => "image/webp",
    }
}

fn word(format: PictureFormat) -> &'static str {
    match format {
        PictureFormat::Png => "PNG",
        PictureFormat::Jpeg => "JPEG",
        PictureFormat::Webp => "WebP",
    }
}

fn of_ending(ending: &str) -> Option<PictureFormat> {
    let known = ENDINGS.iter().find(|(known, _)| *known == ending);
    known.map(|(_, format)| *format)
}

/// The extension of a file's name in lower case; `None` if nothing follows the dot.
fn ending(name: &str) -> Option<String> {
    let ending = Path::new(name).extension()?.to_str()?.to_lowercase();
    (!ending.is_empty()).then_some(ending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_selects_the_format() {
        let by_name = |name| choose(None, Some(name)).map_err(|failure| failure.message);
        assert_eq!(by_name("a.JPG"), Ok(PictureFormat::Jpeg));
        assert_eq!(by_name("a.webp"), Ok(PictureFormat::Webp));
        for plain in ["a", "-", "a.", ".hidden", "dir.d/a"] {
            assert_eq!(by_name(plain), Ok(PictureFormat::Png), "{plain}");
        }
    }

    #[test]
    fn an_unknown_extension_is_refused_with_the_known_ones() {
        let failure = choose(None, Some("a.bmp")).expect_err("an unknown format");
        assert_eq!(failure.field, Some(Field::Output));
        for part in [".bmp", ".png", ".jpg", ".jpeg", ".webp", "--format"] {
            assert!(failure.message.contains(part), "{part}: {failure}");
        }
    }

    #[test]
    fn a_requested_format_overrides_the_extension_with_a_warning() {
        assert_eq!(
            choose(Some(PictureFormat::Webp), Some("a.jpg")),
            Ok(PictureFormat::Webp)
        );
        let warning = contradiction(PictureFormat::Webp, Some("a.jpg"));
        assert!(warning.is_some_and(|text| text.contains("WebP")));
        assert!(contradiction(PictureFormat::Png, Some("a.bmp")).is_some());
        assert_eq!(contradiction(PictureFormat::Jpeg, Some("a.JPG")), None);
        assert_eq!(contradiction(PictureFormat::Jpeg, Some("a")), None);
    }
}
