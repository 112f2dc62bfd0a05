//! Commands from a pipe or a file, one a line.

use std::io::{BufRead, Read};

use ipc_protocol::request::TEXT_BYTES_MAX;

use super::{Effect, Shell};
use crate::cli::USAGE;
use crate::process::spawn::CommandInput;

/// Longest line, in bytes: the longest prompt fits.
const LINE_BYTES_MAX: usize = 2 * TEXT_BYTES_MAX;

/// Runs every line; returns the exit code of the last command that failed, or 0. A line that is not text is an error as
/// any other; one without an end ends the shell, because nothing follows it.
pub(super) fn run(shell: &Shell<'_>, mut lines: impl BufRead) -> u8 {
    let mut code = 0;
    loop {
        let line = match line(&mut lines) {
            Ok(Some(line)) => line,
            Ok(None) => return code,
            Err(why) => {
                shell.refuse(&format!("stdin: {why}"));
                return USAGE;
            }
        };
        // The command must not read the lines that follow.
        let effect = match &line {
            Ok(line) => shell.take(line, CommandInput::Empty),
            Err(why) => shell.refuse(&format!("stdin: {why}")),
        };
        match effect {
            Effect::Nothing => {}
            Effect::Leave(given) => return given.unwrap_or(code),
            Effect::Ended(ending) if ending.code == 0 => {}
            Effect::Ended(ending) => code = ending.code,
        }
    }
}

/// The next line, or why it is not text; `None` at the end.
///
/// # Errors
/// No line can be read any more.
fn line(lines: &mut impl BufRead) -> Result<Option<Result<String, String>>, String> {
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
    let text = String::from_utf8(bytes).map_err(|_| "a line is not UTF-8 text".to_owned());
    Ok(Some(text.map(|text| {
        text.trim_end_matches(['\r', '\n']).to_owned()
    })))
}

#[cfg(test)]
mod tests {
    use std::io::{self, BufReader};

    use super::*;

    #[test]
    fn lines_end_with_a_line_feed_or_the_input() {
        let mut input = BufReader::new(&b"status\r\n\njobs"[..]);
        for expected in [Some("status"), Some(""), Some("jobs"), None] {
            let expected = expected.map(|line| Ok(line.to_owned()));
            assert_eq!(line(&mut input), Ok(expected));
        }
    }

    #[test]
    fn an_endless_line_ends_the_input_and_bytes_that_are_not_text_do_not() {
        let why = line(&mut BufReader::new(io::repeat(b'a'))).expect_err("it never ends");
        assert!(why.contains("more than 122880 bytes"), "{why}");
        let mut input = BufReader::new(&b"\xff\nstatus\n"[..]);
        let first = line(&mut input).expect("it has an end").expect("a line");
        first.expect_err("not text");
        assert_eq!(line(&mut input), Ok(Some(Ok("status".into()))));
    }
}
