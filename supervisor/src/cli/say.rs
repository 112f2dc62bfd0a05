//! Lines on stdout, for as long as somebody reads them.

use std::fmt::Display;
use std::io::{self, Write};
use std::process;

/// Prints a line. A reader that has had enough (`imagepool jobs | head`) ends the command quietly, as it
/// ends every other command of a pipeline.
pub fn line(text: impl Display) {
    if writeln!(io::stdout(), "{text}").is_err() {
        process::exit(0);
    }
}
