//! The one name on a user's PATH: hands its arguments to `cli`.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use supervisor::cli::{self, args};

fn main() -> ExitCode {
    let arguments = args::Arguments::parse();
    if let args::Command::Later(words) = &arguments.command
        && !words.first().is_some_and(|word| args::is_planned(word))
    {
        let word = words.first().map_or("", String::as_str);
        args::Arguments::command()
            .error(
                clap::error::ErrorKind::InvalidSubcommand,
                format!("there is no command {word:?}"),
            )
            .exit();
    }
    cli::run(arguments)
}
