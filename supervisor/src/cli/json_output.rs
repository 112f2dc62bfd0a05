//! Where a command's JSON goes: to stdout, or to stderr if the picture is written to stdout.
//!
//! A command about one thing prints one object, and a list is one array, `[]` if it is empty. Results that come one after
//! the other (pictures, names, events, lines of a log, checks) are one object per line. An error is `{"error":{…}}`.

use std::ffi::OsStr;
use std::fmt::Display;

use serde_json::Value;

use super::args::Command;
use super::draw::output;
use super::say;

/// Where a command's JSON goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonOutput {
    /// Nowhere: it prints text.
    None,
    Stdout,
    /// The picture is on stdout.
    Stderr,
}

impl JsonOutput {
    /// Where a command prints its JSON, if it is to print any.
    pub fn of(json: bool, command: Option<&Command>) -> Self {
        match json {
            false => Self::None,
            true if command.is_some_and(writes_to_stdout) => Self::Stderr,
            true => Self::Stdout,
        }
    }

    /// The same for words that clap refuses: `--json` may be among them, and an output on stdout.
    pub fn of_words<'a>(words: impl IntoIterator<Item = &'a OsStr>) -> Self {
        let options = words.into_iter().take_while(|word| *word != "--");
        let (mut json, mut is_output, mut to_stdout) = (false, false, false);
        for word in options.map(OsStr::to_string_lossy) {
            json |= word == "--json";
            let attached = word
                .strip_prefix("--output=")
                .or_else(|| word.strip_prefix("-o"));
            to_stdout |= match is_output {
                true => output::is_stdout(&word),
                false => attached.is_some_and(output::is_stdout),
            };
            is_output = word == "-o" || word == "--output";
        }
        match (json, to_stdout) {
            (false, _) => Self::None,
            (true, false) => Self::Stdout,
            (true, true) => Self::Stderr,
        }
    }

    /// Prints a value, if JSON is wanted.
    pub fn print(self, value: impl Display) {
        match self {
            Self::None => {}
            Self::Stdout => say::line(value),
            Self::Stderr => say::aside(value),
        }
    }
}

/// Prints a list as one array.
pub fn list(values: impl IntoIterator<Item = Value>) {
    say::line(values.into_iter().collect::<Value>());
}

fn writes_to_stdout(command: &Command) -> bool {
    let output = if let Command::Generate(generate) = command {
        generate.output.as_deref()
    } else if let Command::Wait(wait) = command {
        wait.output.as_deref()
    } else {
        None
    };
    output.is_some_and(output::is_stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_leaves_a_stdout_that_takes_the_picture() {
        let of = |line: &str| JsonOutput::of_words(line.split(' ').map(OsStr::new));
        for (line, expected) in [
            ("generate a", JsonOutput::None),
            ("generate a --json", JsonOutput::Stdout),
            ("--json generate a -o b.png", JsonOutput::Stdout),
            ("--json generate - -o b.png", JsonOutput::Stdout),
            ("generate a --json -o -", JsonOutput::Stderr),
            ("generate a -o- --json", JsonOutput::Stderr),
            ("generate a --output=/dev/stdout --json", JsonOutput::Stderr),
            ("generate -- --json", JsonOutput::None),
        ] {
            assert_eq!(of(line), expected, "{line}");
        }
    }
}
