//! What a picture's file holds, by `--format` or by its name.

use std::path::Path;

use ipc_protocol::failure::{Failure, Field};

use clap::ValueEnum;

/// What a picture's file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PictureFormat {
    /// Lossless, with a receipt.
    Png,
    /// Small.
    #[value(alias = "jpg")]
    Jpeg,
    /// Lossless and smaller.
    Webp,
}

/// The endings of file names that say what the file holds.
const ENDINGS: [(&str, PictureFormat); 4] = [
    ("png", PictureFormat::Png),
    ("jpg", PictureFormat::Jpeg),
    ("jpeg", PictureFormat::Jpeg),
    ("webp", PictureFormat::Webp),
];

/// The format that was asked for, else that of the name's ending, else PNG.
///
/// # Errors
/// The name has an ending that is not one of `ENDINGS`, and no format was asked for.
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
            let message = format!("no picture can be written as .{ending}: {known}");
            Failure::bad_value(Field::Output, message)
        }),
    }
}

/// A warning where the name's ending does not say what the file will hold.
pub fn contradiction(format: PictureFormat, output: Option<&str>) -> Option<String> {
    let name = output?;
    let other = of_ending(&ending(name)?) != Some(format);
    other.then(|| format!("{name} will hold {} in spite of its name", word(format)))
}

/// The usual ending of a format's files.
pub fn extension(format: PictureFormat) -> &'static str {
    match format {
        PictureFormat::Png => "png",
        PictureFormat::Jpeg => "jpeg",
        PictureFormat::Webp => "webp",
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

/// The ending of a file's name in lower case; none where nothing follows the dot.
fn ending(name: &str) -> Option<String> {
    let ending = Path::new(name).extension()?.to_str()?.to_lowercase();
    (!ending.is_empty()).then_some(ending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_file_says_what_it_holds() {
        let by_name = |name| choose(None, Some(name)).map_err(|failure| failure.message);
        assert_eq!(by_name("a.JPG"), Ok(PictureFormat::Jpeg));
        assert_eq!(by_name("a.webp"), Ok(PictureFormat::Webp));
        for plain in ["a", "-", "a.", ".hidden", "dir.d/a"] {
            assert_eq!(by_name(plain), Ok(PictureFormat::Png), "{plain}");
        }
    }

    #[test]
    fn an_unknown_ending_is_refused_with_the_known_ones() {
        let failure = choose(None, Some("a.bmp")).expect_err("nothing writes it");
        assert_eq!(failure.field, Some(Field::Output));
        for part in [".bmp", ".png", ".jpg", ".jpeg", ".webp", "--format"] {
            assert!(failure.message.contains(part), "{part}: {failure}");
        }
    }

    #[test]
    fn a_format_that_was_asked_for_wins_and_the_contradiction_is_reported() {
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
