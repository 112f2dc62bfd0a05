//! Lines on stdout and stderr. A reader that leaves or a full disk ends no command: what stdout lost is told by
//! the exit code. What a terminal would obey is escaped in all lines, because any may quote a file, a hub, a
//! worker or a daemon.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

use ipc_protocol::untrusted::escaped;

use crate::telemetry::stderr;

/// The first error of this process's stdout.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// The exit code where output was lost.
const OUTPUT_LOST: u8 = 1;

/// Prints a line on stdout. An error is kept for [`end`], and nothing is printed after it.
pub fn line(text: impl Display) {
    if LOST.get().is_none() {
        // A later error of another thread says nothing that the first one does not.
        let _ = print(&mut io::stdout(), text).map_err(|error| LOST.set(error));
    }
}

/// Prints a line on stderr; without a reader there is nobody left to tell.
pub fn aside(text: impl Display) {
    stderr::line(escaped(text));
}

/// The exit code of a command that would have ended with `code`: another one where stdout lost some of its
/// output. A reader that has had enough (`imagepool jobs | head`) needs no sentence about it.
pub fn end(code: u8) -> ExitCode {
    let flushed = match LOST.get() {
        None => io::stdout().flush(),
        Some(_) => Ok(()),
    };
    let Some(error) = LOST.get().or(flushed.as_ref().err()) else {
        return ExitCode::from(code);
    };
    if error.kind() != ErrorKind::BrokenPipe {
        aside(format_args!("imagepool: output: stdout: {error}"));
    }
    ExitCode::from(if code == 0 { OUTPUT_LOST } else { code })
}

/// Prints what clap answers itself: help and versions on stdout, wrong usage on stderr.
pub fn usage(answer: &clap::Error) -> ExitCode {
    let printed = answer.print();
    if answer.use_stderr() {
        return ExitCode::from(u8::try_from(answer.exit_code()).unwrap_or(2));
    }
    // Nothing else is printed, so no earlier error can be there.
    let _ = printed.map_err(|error| LOST.set(error));
    end(0)
}

fn print(stdout: &mut impl Write, text: impl Display) -> io::Result<()> {
    writeln!(stdout, "{}", escaped(text))?;
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_json_keeps_its_value_and_shows_nothing_that_a_terminal_obeys() {
        let words = "\u{1b}[2J\r\n\u{7f}\u{9b}\u{202e}\u{2028} \\u202e ü";
        let value = serde_json::json!({ "error": words });
        let line = escaped(&value);
        assert!(
            !line.contains(ipc_protocol::untrusted::is_obeyed),
            "{line:?}"
        );
        let read: serde_json::Value = serde_json::from_str(&line).expect("it is still JSON");
        assert_eq!(read, value);
    }
}
