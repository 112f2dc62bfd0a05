//! Prints lines on stdout and stderr.
//!
//! A closed pipe or a full disk does not abort a command; lost output changes the exit code. Control characters
//! are escaped in every line, because any line may quote a file, a hub, a worker or a daemon.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

use ipc_protocol::untrusted::escaped;

use crate::telemetry::stderr;

/// The first write error on this process's stdout.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// Exit code of a successful command whose output was lost.
const OUTPUT_LOST: u8 = 1;

/// Prints a line on stdout. After a write error, which [`end`] reports, prints nothing more.
pub fn line(text: impl Display) {
    if LOST.get().is_none() {
        // If another thread failed first, its error is enough.
        let _ = print(&mut io::stdout(), text).map_err(|error| LOST.set(error));
    }
}

/// Whether stdout lost a line: nothing more can be printed there.
pub fn is_lost() -> bool {
    LOST.get().is_some()
}

/// Prints a line on stderr; write errors are ignored.
pub fn aside(text: impl Display) {
    stderr::line(escaped(text));
}

/// The exit code of a command that ends with `code`; 1 instead of 0 if stdout lost some of its output. A closed
/// pipe (`imagepool jobs | head`) prints no error.
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

/// Prints clap's own output and ends with its exit code.
pub fn usage(answer: &clap::Error) -> ExitCode {
    end(usage_code(answer))
}

/// Prints clap's own output: help and version on stdout, usage errors on stderr. Returns its exit code.
pub fn usage_code(answer: &clap::Error) -> u8 {
    let printed = answer.print();
    if answer.use_stderr() {
        return u8::try_from(answer.exit_code()).unwrap_or(2);
    }
    // An earlier error is enough.
    let _ = printed.map_err(|error| LOST.set(error));
    0
}

/// Prints a line with colours on stdout. Every text in it was escaped before it was painted.
pub fn painted(line: &str) {
    if LOST.get().is_none() {
        let mut stdout = io::stdout();
        let printed = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
        let _ = printed.map_err(|error| LOST.set(error));
    }
}

fn print(stdout: &mut impl Write, text: impl Display) -> io::Result<()> {
    writeln!(stdout, "{}", escaped(text))?;
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escaped_line_of_json_keeps_its_value_and_has_no_control_characters() {
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
