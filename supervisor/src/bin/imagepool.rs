//! The program `imagepool`: parses its arguments and runs a command of `cli`.

#![deny(
    clippy::print_stderr,
    reason = "it panics without a reader: telemetry::stderr"
)]

use std::process::ExitCode;

use supervisor::cli::{self, args, say};
use supervisor::process::signals;

fn main() -> ExitCode {
    signals::fail_beyond_file_size_limit();
    let words: Vec<_> = std::env::args_os().collect();
    match args::read(words.iter().cloned()) {
        Ok(arguments) => cli::run(arguments),
        Err(answer) => say::end(cli::answered_by_clap(&answer, &words)),
    }
}
