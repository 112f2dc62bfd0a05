//! The program `imagepool`: parses its arguments and runs a command of `cli`.

#![deny(
    clippy::print_stderr,
    reason = "it panics without a reader: telemetry::stderr"
)]

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use supervisor::cli::{self, args, say};
use supervisor::process::signals;

fn main() -> ExitCode {
    signals::fail_beyond_file_size_limit();
    let arguments = match args::CommandLine::try_parse() {
        Ok(arguments) => arguments,
        Err(answer) => return say::usage(&answer),
    };
    if let args::Command::Later(words) = &arguments.command
        && !words.first().is_some_and(|word| args::is_planned(word))
    {
        let word = words.first().map_or("", String::as_str);
        let unknown = args::CommandLine::command().error(
            clap::error::ErrorKind::InvalidSubcommand,
            format!("unknown command {word:?}"),
        );
        return say::usage(&unknown);
    }
    cli::run(arguments)
}
