//! `imagepool` without a command: reads commands and runs them, as supervisorctl does.
//!
//! Each command is a process of its own with this program's arguments, so the shell and the command line have
//! the same code, and Ctrl-C, a crash or a blocked connection ends the command and not the shell.
//!
//! - [`words`] splits a line; [`completion`] completes one with [`names`]; [`history`] keeps earlier ones
//! - [`terminal`] is the editor of a terminal; [`script`] reads lines from a pipe or a file

pub mod completion;
pub mod history;
pub mod names;
pub mod script;
pub mod terminal;
pub mod words;

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitStatus;

use super::args::{self, Command, CommandLine, ConnectOptions};
use super::json_output::JsonOutput;
use super::{CommandError, say};
use crate::cli;
use crate::process::spawn::{self, CommandInput};
use words::ShellLine;

/// This program, even if its file was replaced while the shell runs.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Reads and runs commands until the input ends; returns the exit code.
///
/// # Errors
/// The terminal cannot be read.
pub fn run(arguments: &CommandLine) -> Result<u8, CommandError> {
    let shell = Shell::new(arguments);
    match io::stdin().is_terminal() && io::stdout().is_terminal() {
        true => terminal::run(&shell),
        false => Ok(script::run(&shell, io::stdin().lock())),
    }
}

/// Runs commands with the global options that the shell was started with.
#[derive(Debug)]
pub struct Shell<'a> {
    arguments: &'a CommandLine,
    options: Vec<OsString>,
}

/// The effect of a line on the shell.
#[derive(Debug)]
pub enum Effect {
    /// Nothing to run.
    Nothing,
    /// A command ended: with a code, or by a signal.
    Ended(Ending),
    /// The shell ends, with this exit code if the line had one.
    Leave(Option<u8>),
}

/// The end of a command.
#[derive(Debug, Clone, Copy)]
pub struct Ending {
    /// Its exit code; 128 and the signal's number if a signal ended it.
    pub code: u8,
    /// Whether a signal ended it: it may have left the terminal in any state.
    pub by_signal: bool,
}

impl<'a> Shell<'a> {
    fn new(arguments: &'a CommandLine) -> Self {
        Self {
            arguments,
            options: options(arguments),
        }
    }

    /// Runs a line.
    fn take(&self, line: &str, input: CommandInput) -> Effect {
        let refused = |message: &str| self.refuse(message);
        match words::read(line) {
            ShellLine::Empty => Effect::Nothing,
            ShellLine::Leave(code) => Effect::Leave(code),
            ShellLine::NoCode(word) => refused(&format!(
                "{word} takes an exit code: use a whole number from 0 to 255, or leave it out"
            )),
            ShellLine::HelpToLeave => {
                say::line("Leave the shell; jobs of other commands continue.");
                say::line("Usage: quit [CODE], exit [CODE] or Ctrl-D");
                Effect::Nothing
            }
            ShellLine::Unclosed => refused(
                "a quote is not closed: close it, or write \\' or \\\" for the character itself",
            ),
            ShellLine::Words(words) => {
                let mut all = vec![OsString::from("imagepool")];
                all.extend(self.options.iter().cloned());
                all.extend(words.into_iter().map(OsString::from));
                match args::read(all.iter().cloned()) {
                    Ok(CommandLine { command: None, .. }) => {
                        refused("options alone are not a command: `help` lists the commands")
                    }
                    Ok(CommandLine {
                        command: Some(Command::Generate(generate)),
                        ..
                    }) if generate.prompt == "-" => refused(
                        "prompt: `generate -` reads stdin, which is the shell's: write the prompt in quotes",
                    ),
                    // Help is printed here too, so that it needs no process.
                    Err(answer) => Effect::Ended(Ending {
                        code: cli::answered_by_clap(&answer, &all),
                        by_signal: false,
                    }),
                    Ok(_) => self.start(&all[1..], input),
                }
            }
        }
    }

    /// Prints why a line is not run.
    fn refuse(&self, message: &str) -> Effect {
        let error = CommandError::Usage(message.to_owned());
        error.tell(JsonOutput::of(self.arguments.json, None));
        Effect::Ended(Ending {
            code: error.exit_code(),
            by_signal: false,
        })
    }

    /// Runs `imagepool` with these words and waits for its end.
    fn start(&self, words: &[OsString], input: CommandInput) -> Effect {
        match spawn::run_in_foreground(Path::new(OWN_PROGRAM), words, input) {
            Ok(status) => Effect::Ended(ending(status)),
            Err(error) => {
                say::aside(format_args!("imagepool: cannot start a command: {error}"));
                Effect::Ended(Ending {
                    code: 1,
                    by_signal: false,
                })
            }
        }
    }
}

/// Prints the names that complete a line of the system's shell; returns the exit code.
pub fn print_names(reach: &ConnectOptions, line: &str) -> u8 {
    let mut program = args::definition();
    program.build();
    let found = completion::complete_names(&program, line, || {
        names::of_daemon(reach).unwrap_or_else(names::of_settings)
    });
    found.iter().for_each(say::line);
    0
}

/// The global options of a command line, as words.
fn options(arguments: &CommandLine) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    let reach = &arguments.reach;
    if let Some(socket) = &reach.socket {
        words.extend(["--socket".into(), socket.into()]);
    }
    for (flag, is_set) in [
        ("--json", arguments.json),
        ("--quiet", reach.quiet),
        ("--verbose", reach.verbose),
        ("--private", reach.private),
    ] {
        words.extend(is_set.then(|| flag.into()));
    }
    words.push(format!("--color={}", arguments.color.word()).into());
    words
}

fn ending(status: ExitStatus) -> Ending {
    use std::os::unix::process::ExitStatusExt;
    let code = match status.code() {
        Some(code) => code,
        None => 128 + status.signal().unwrap_or_default(),
    };
    Ending {
        code: u8::try_from(code).unwrap_or(u8::MAX),
        by_signal: status.code().is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_gets_the_options_of_the_shell() {
        let line = [
            "imagepool",
            "--socket",
            "/a b",
            "-q",
            "--json",
            "--color=never",
        ];
        let read = args::read(line.map(OsString::from)).expect("it parses");
        let options = options(&read);
        let all = ["imagepool".into(), OsString::from("status")]
            .into_iter()
            .chain(options);
        let read = args::read(all).expect("it parses");
        assert_eq!(read.reach.socket.as_deref(), Some(Path::new("/a b")));
        assert!(read.json && read.reach.quiet && !read.reach.verbose);
        assert_eq!(read.color.word(), "never");
    }
}
