//! The shell in a terminal: a line editor with history and completion.

use std::cell::RefCell;
use std::io::{self, Write};

use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::completion::{self, KnownNames};
use super::history::{self, HistoryFile};
use super::{Effect, Shell, names};
use crate::cli::args::{self, ConnectOptions};
use crate::cli::{CommandError, say};
use crate::process::spawn::CommandInput;

const PROMPT: &str = "imagepool> ";

/// Ends another screen of the terminal, shows the cursor, and ends all colours.
const RESET: &str = "\x1b[?1049l\x1b[?25h\x1b[0m";

/// Prints the status, then reads and runs lines until `quit`, `exit` or Ctrl-D.
pub(super) fn run(shell: &Shell<'_>) -> Result<u8, CommandError> {
    let failed =
        |what: &dyn std::fmt::Display| CommandError::Output(format!("the terminal: {what}"));
    let _signals = IgnoredSignals::start().map_err(|error| failed(&error))?;
    let terminal = TerminalState::read();
    let history = HistoryFile::of_user();
    let mut editor = editor(&shell.arguments.reach, &history).map_err(|error| failed(&error))?;
    shell.take("status", CommandInput::Inherited);
    loop {
        let line = match editor.readline(PROMPT) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => {
                say::line("");
                return Ok(0);
            }
            Err(error) => return Err(failed(&error)),
        };
        if !line.trim().is_empty() {
            // It fails only without memory.
            let _ = editor.add_history_entry(&line);
            history.add(&line);
        }
        match shell.take(&line, CommandInput::Inherited) {
            Effect::Nothing => {}
            Effect::Leave(code) => return Ok(code.unwrap_or(0)),
            Effect::Ended(ending) if ending.by_signal => terminal.restore(),
            Effect::Ended(_) => {}
        }
    }
}

fn editor(
    reach: &ConnectOptions,
    history: &HistoryFile,
) -> rustyline::Result<Editor<LineCompleter, DefaultHistory>> {
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .max_history_size(history::LINES_MAX)?
        .history_ignore_space(true)
        .auto_add_history(false)
        .build();
    let mut editor = Editor::with_config(config)?;
    for line in history.read() {
        editor.add_history_entry(line)?;
    }
    let mut program = args::definition();
    program.build();
    editor.set_helper(Some(LineCompleter {
        reach: reach.clone(),
        program,
        names: RefCell::default(),
    }));
    Ok(editor)
}

/// Keeps Ctrl-C and Ctrl-\ for the running command, which gets them from the terminal too.
struct IgnoredSignals {
    _runtime: Runtime,
    _signals: [Signal; 2],
}

impl IgnoredSignals {
    fn start() -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let signals = {
            let _inside = runtime.enter();
            [
                signal(SignalKind::interrupt())?,
                signal(SignalKind::quit())?,
            ]
        };
        Ok(Self {
            _runtime: runtime,
            _signals: signals,
        })
    }
}

/// The state of the terminal before the first command.
struct TerminalState(Option<Termios>);

impl TerminalState {
    fn read() -> Self {
        Self(tcgetattr(io::stdin()).ok())
    }

    /// Restores it after a command that a signal ended, which may have left it raw.
    fn restore(&self) {
        if let Some(state) = &self.0 {
            // If the terminal is gone, the next line is not read either.
            let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, state);
            let mut stdout = io::stdout();
            let _ = stdout
                .write_all(RESET.as_bytes())
                .and_then(|()| stdout.flush());
            say::line("");
        }
    }
}

/// The editor's help: completion.
struct LineCompleter {
    reach: ConnectOptions,
    program: clap::Command,
    /// The names of the last answer.
    names: RefCell<KnownNames>,
}

impl LineCompleter {
    /// The names that the daemon lists; those of its last answer if it takes too long.
    fn names(&self) -> KnownNames {
        if let Some(names) = names::of_daemon(&self.reach) {
            *self.names.borrow_mut() = names;
        }
        self.names.borrow().clone()
    }
}

impl Completer for LineCompleter {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(completion::complete(
            &self.program,
            &line[..position],
            || self.names(),
        ))
    }
}

impl Helper for LineCompleter {}
impl Highlighter for LineCompleter {}
impl Validator for LineCompleter {}
impl Hinter for LineCompleter {
    type Hint = String;
}
