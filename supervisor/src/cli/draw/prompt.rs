//! Reads the prompt from the argument or from stdin.

use std::io::{self, Read};

use ipc_protocol::failure::{Failure, Field};
use ipc_protocol::request::TEXT_BYTES_MAX;

/// First character of UTF-8 files that Windows programs write.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Returns the prompt; `-` reads it from stdin.
///
/// # Errors
/// Stdin cannot be read, is longer than [`TEXT_BYTES_MAX`], or is not text.
pub fn read(argument: &str) -> Result<String, Failure> {
    match argument {
        "-" => from(io::stdin().lock()),
        typed => Ok(typed.to_owned()),
    }
}

/// Reads at most one byte more than the limit, so that an endless pipe is refused too.
fn from(source: impl Read) -> Result<String, Failure> {
    let refused = |why: String| Failure::bad_value(Field::Prompt, why);
    let mut bytes = Vec::new();
    source
        .take(TEXT_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| refused(format!("cannot read stdin: {error}")))?;
    if bytes.len() > TEXT_BYTES_MAX {
        let why =
            format!("the text on stdin is too long: a prompt has at most {TEXT_BYTES_MAX} bytes");
        return Err(refused(why));
    }
    let text = decoded(bytes).ok_or_else(|| refused("stdin is not UTF-8 text".into()))?;
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text);
    let text = text.replace("\r\n", "\n");
    Ok(text.trim_end_matches('\n').to_owned())
}

/// Decodes UTF-8, or UTF-16 if it begins with a byte order mark, as Windows shells write it.
fn decoded(bytes: Vec<u8>) -> Option<String> {
    let unit = match bytes.get(..2) {
        Some([0xff, 0xfe]) => u16::from_le_bytes,
        Some([0xfe, 0xff]) => u16::from_be_bytes,
        _ => return String::from_utf8(bytes).ok(),
    };
    let (pairs, rest) = bytes.as_chunks::<2>();
    let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
    rest.is_empty()
        .then(|| String::from_utf16(&units).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_marks_and_line_ends_are_not_part_of_the_prompt() {
        let two_lines = Ok("a red\ncircle".to_owned());
        let utf16 = |to_bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            let text = "\u{feff}a red\r\ncircle\r\n";
            text.encode_utf16().flat_map(to_bytes).collect()
        };
        for bytes in [
            b"a red\ncircle\n".to_vec(),
            b"a red\r\ncircle\r\n\r\n".to_vec(),
            b"\xef\xbb\xbfa red\r\ncircle".to_vec(),
            utf16(u16::to_le_bytes),
            utf16(u16::to_be_bytes),
        ] {
            assert_eq!(from(bytes.as_slice()), two_lines, "{bytes:?}");
        }
    }

    #[test]
    fn an_endless_pipe_is_read_to_the_limit_and_refused() {
        let failure = from(io::repeat(b'x')).expect_err("it never ends");
        assert_eq!(failure.field, Some(Field::Prompt));
        assert!(failure.message.contains("61440"), "{failure}");
        let most = vec![b'x'; TEXT_BYTES_MAX];
        assert_eq!(from(most.as_slice()).map(|text| text.len()), Ok(most.len()));
    }

    #[test]
    fn bytes_that_are_not_text_are_refused() {
        for bytes in [b"\xff".as_slice(), b"\xff\xfea", b"\x80\x81"] {
            assert!(from(bytes).is_err(), "{bytes:?}");
        }
    }
}
