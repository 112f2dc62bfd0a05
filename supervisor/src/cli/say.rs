//! Lines on stdout and stderr, for as long as somebody reads them. What a terminal would obey is escaped in
//! all of them, because any may quote a file, a hub, a worker or a daemon.

use std::fmt::{self, Display, Write as _};
use std::io::{self, Write};
use std::process;

use ipc_protocol::untrusted::Escaping;

/// Prints a line. A reader that has had enough (`imagepool jobs | head`) ends the command quietly, as it
/// ends every other command of a pipeline.
pub fn line(text: impl Display) {
    if writeln!(io::stdout(), "{}", escaped(text)).is_err() {
        process::exit(0);
    }
}

/// Prints a line on stderr; without a reader there it is lost.
pub fn aside(text: impl Display) {
    let _ = writeln!(io::stderr(), "{}", escaped(text));
}

/// A text as one line that a terminal only shows.
pub fn escaped(text: impl Display) -> String {
    let mut line = String::new();
    let written: fmt::Result = write!(Escaping(&mut line), "{text}");
    written.expect("a string takes everything");
    line
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
