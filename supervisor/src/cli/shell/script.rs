//! Commands from a pipe or a file, one a line.

use std::io::{BufRead, Read};

use ipc_protocol::request::TEXT_BYTES_MAX;

use super::{Effect, Shell, USAGE};
use crate::cli::say;
use crate::process::spawn::CommandInput;

/// Longest line, in bytes: the longest prompt fits.
const LINE_BYTES_MAX: usize = 2 * TEXT_BYTES_MAX;

/// Runs every line; returns the exit code of the last command that failed, or 0.
pub(super) fn run(shell: &Shell<'_>, mut lines: impl BufRead) -> u8 {
    let mut code = 0;
    loop {
        let line = match line(&mut lines) {
            Ok(Some(line)) => line,
            Ok(None) => return code,
            Err(why) => {
                say::aside(format_args!("imagepool: stdin: {why}"));
                return USAGE;
            }
        };
        // The command must not read the lines that follow.
        match shell.take(&line, CommandInput::Empty) {
            Effect::Nothing => {}
            Effect::Leave => return code,
            Effect::Ended(ending) if ending.code == 0 => {}
            Effect::Ended(ending) => code = ending.code,
        }
    }
}

/// The next line; `None` at the end.
fn line(lines: &mut impl BufRead) -> Result<Option<String>, String> {
    let mut bytes = Vec::new();
    lines
        .take(LINE_BYTES_MAX as u64 + 1)
        .read_until(b'\n', &mut bytes)
        .map_err(|error| format!("cannot read it: {error}"))?;
    if bytes.len() > LINE_BYTES_MAX {
        return Err(format!("a line has more than {LINE_BYTES_MAX} bytes"));
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    let text = String::from_utf8(bytes).map_err(|_| "a line is not UTF-8 text".to_owned())?;
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

#[cfg(test)]
mod tests {
    use std::io::{self, BufReader};

    use super::*;

    #[test]
    fn lines_end_with_a_line_feed_or_the_input() {
        let mut input = BufReader::new(&b"status\r\n\njobs"[..]);
        assert_eq!(line(&mut input), Ok(Some("status".into())));
        assert_eq!(line(&mut input), Ok(Some(String::new())));
        assert_eq!(line(&mut input), Ok(Some("jobs".into())));
        assert_eq!(line(&mut input), Ok(None));
    }

    #[test]
    fn an_endless_line_and_bytes_that_are_not_text_are_refused() {
        let why = line(&mut BufReader::new(io::repeat(b'a'))).expect_err("it never ends");
        assert!(why.contains("more than 122880 bytes"), "{why}");
        line(&mut BufReader::new(&b"\xff\n"[..])).expect_err("not text");
    }
}
