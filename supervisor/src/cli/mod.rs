//! The commands of `imagepool`, which talk to the daemon only through `ipc_protocol::client`.
//!
//! - [`args`]: the arguments and the help, with [`examples`]; `number` parses numbers
//! - [`exit_codes`]: the list of exit codes; [`json_output`]: where JSON goes
//! - [`say`] prints lines; [`colour`] decides whether they have colours, [`text`] fits them to a terminal
//! - [`shell`] reads commands line by line and runs each; [`top`] is a live view
//! - [`doctor`] checks the machine
//! - [`draw`]: the commands that draw; [`operate`]: the operator's commands; [`models`]: the model files
//! - [`daemon`]: finds the daemon or starts a private one

pub mod args;
pub mod colour;
pub mod daemon;
pub mod doctor;
pub mod draw;
pub mod examples;
pub mod exit_codes;
pub mod json_output;
pub mod models;
mod number;
pub mod operate;
pub mod say;
pub mod shell;
pub mod text;
pub mod top;

use std::ffi::OsString;
use std::process::ExitCode;

use ipc_protocol::client::ClientError;
use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::JobId;
use ipc_protocol::messages::client::Verb;
use serde_json::{Value, json};

use crate::picture::receipt;
use args::{Command, CommandLine};
use draw::{generate, replay, wait};
use json_output::JsonOutput;
use operate::last_crash::{self, ObituarySource};
use operate::status::{self, StatusOptions};
use operate::verbs::{self, VerbOutput};
use operate::{available, events, jobs, logs};

/// Exit code: no daemon answered, or it speaks another protocol version.
const NO_DAEMON: u8 = 7;
/// Exit code: the daemon ended before it answered; try again later.
const RETRY_LATER: u8 = 75;
/// Exit code: the words are not a command, or a value is invalid.
const USAGE: u8 = 2;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The words are not a command.
    #[error("{0}")]
    Usage(String),
    /// The request was refused, by the pool or by a check before it was sent.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// The daemon could not be reached, or the connection broke.
    #[error(transparent)]
    Client(ClientError),
    /// The output file cannot be written; the message names it.
    #[error("output: {0}")]
    Output(String),
    /// The user pressed Ctrl-C: jobs of this command were cancelled, those of other commands continue.
    #[error("interrupted")]
    Interrupted,
    /// No daemon runs that could keep a detached job.
    #[error(
        "--detach needs a daemon that keeps the job, and {0}; start `supervisor`, or leave out --detach"
    )]
    NoKeeper(ClientError),
    /// The private pool did not start.
    #[error("cannot start a private pool: {0}")]
    Private(String),
    /// A command about model files failed.
    #[error("{message}")]
    Models {
        /// Machine-readable kind of error, as `exit_code` in `models` lists it.
        kind: String,
        /// The error, with its cause and a remedy.
        message: String,
    },
    /// The receipt in a file cannot be drawn again.
    #[error(transparent)]
    Receipt(#[from] receipt::Refusal),
}

impl From<ClientError> for CommandError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(failure) => Self::Failure(failure),
            other => Self::Client(other),
        }
    }
}

impl CommandError {
    /// The exit code of the command.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Failure(failure) => failure.kind.exit_code(),
            Self::Client(ClientError::NotTrusted { .. } | ClientError::NotAdmitted { .. }) => {
                FailureKind::NotPermitted.exit_code()
            }
            Self::Client(ClientError::Lost { .. } | ClientError::Unanswered) => RETRY_LATER,
            Self::Client(_) | Self::NoKeeper(_) => NO_DAEMON,
            Self::Output(_) | Self::Private(_) => 1,
            Self::Models { kind, .. } => models::exit_code(kind),
            Self::Receipt(_) | Self::Usage(_) => USAGE,
            Self::Interrupted => 130,
        }
    }

    /// Prints the error on stderr, and with `--json` as JSON too.
    pub fn tell(&self, json: JsonOutput) {
        say::aside(format_args!("imagepool: {self}"));
        json.print(self.json());
    }

    /// The error as `{"error":{"kind","field","message"}}`.
    pub fn json(&self) -> serde_json::Value {
        let (kind, field, message) = match self {
            Self::Failure(failure) => return json!({ "error": described(failure) }),
            Self::Output(message) => ("output", Some("output".to_owned()), message.clone()),
            Self::Client(ClientError::NotTrusted { .. } | ClientError::NotAdmitted { .. }) => {
                ("not_permitted", None, self.to_string())
            }
            Self::Client(ClientError::Lost { .. } | ClientError::Unanswered) => {
                ("daemon_lost", None, self.to_string())
            }
            Self::Client(_) | Self::NoKeeper(_) => ("no_daemon", None, self.to_string()),
            Self::Models { kind, message } => (kind.as_str(), None, message.clone()),
            Self::Receipt(refusal) => ("receipt", refusal.field.clone(), refusal.message.clone()),
            Self::Interrupted => ("interrupted", None, self.to_string()),
            Self::Usage(message) => ("usage", None, message.clone()),
            Self::Private(_) => ("no_private_pool", None, self.to_string()),
        };
        json!({"error": {"kind": kind, "field": field, "message": message}})
    }
}

/// A failure as `{"kind","field","message"}`.
fn described(failure: &Failure) -> Value {
    let field = failure.field.map(|field| field.to_string());
    json!({"kind": failure.kind.word(), "field": field, "message": failure.message})
}

/// Prints clap's own answer to these words: help, the version, or a usage error, with `--json` as JSON too. Returns its
/// exit code.
pub fn answered_by_clap(answer: &clap::Error, words: &[OsString]) -> u8 {
    let code = say::usage_code(answer);
    if answer.use_stderr() {
        let json = JsonOutput::of_words(words.iter().map(OsString::as_os_str));
        json.print(CommandError::Usage(args::fault(answer)).json());
    }
    code
}

/// Runs the command, or the shell without one. Prints its error on stderr, and with `--json` as JSON too.
pub fn run(mut arguments: CommandLine) -> ExitCode {
    arguments.color.apply_to_bars();
    let command = arguments.command.take();
    let json = JsonOutput::of(arguments.json, command.as_ref());
    let code = match command {
        None => shell::run(&arguments),
        Some(command) => dispatch(&arguments, command, json),
    };
    say::end(code.unwrap_or_else(|error| {
        error.tell(json);
        error.exit_code()
    }))
}

/// Runs a command; returns its exit code.
fn dispatch(
    arguments: &CommandLine,
    command: Command,
    output: JsonOutput,
) -> Result<u8, CommandError> {
    let (reach, json) = (&arguments.reach, arguments.json);
    let teller = |verb| VerbOutput { verb, json };
    let pin = |model, pinned| Verb::Pin { model, pinned };
    match command {
        _ if reach.private && !command.draws() => Err(Failure::new(
            FailureKind::BadValue,
            "--private works with generate, plan and replay only: no other command starts a pool",
        )
        .into()),
        Command::Generate(request) => generate::run(reach, *request, output),
        Command::Status { names } => {
            let colour = arguments.color;
            status::run(reach, &names, StatusOptions { json, colour })
        }
        Command::Stop { names } => verbs::each(reach, &names, teller("stop"), Verb::Stop),
        Command::Start { names } => verbs::each(reach, &names, teller("start"), Verb::Start),
        Command::Restart { names } => verbs::each(reach, &names, teller("restart"), Verb::Restart),
        Command::Signal { signal, names } => {
            let verb = |target| Verb::Signal {
                signal: signal.clone(),
                target,
            };
            verbs::each(reach, &names, teller("signal"), verb)
        }
        Command::Tail { follow, words } => logs::tail(reach, teller("tail"), &words, follow),
        Command::Maintail { follow, words } => {
            logs::main_tail(reach, teller("maintail"), &words, follow)
        }
        Command::Clear { names } => verbs::each(reach, &names, teller("clear"), Verb::Clear),
        Command::Avail => available::run(reach, teller("avail")),
        Command::Reread => verbs::tell(reach, teller("reread"), Verb::Reread),
        Command::Update { models } => verbs::tell(reach, teller("update"), Verb::Update { models }),
        Command::Reload => verbs::tell(reach, teller("reload"), Verb::Reload),
        Command::Events { follow } => events::run(reach, follow, json),
        Command::Pid { names } => status::pids(reach, &names, json),
        Command::Jobs => jobs::run(reach, json),
        Command::Wait(job) => wait::run(reach, &job, output),
        Command::Shutdown => verbs::shutdown(reach, teller("shutdown")),
        Command::Drain { undo } => verbs::drain(reach, teller("drain"), undo),
        Command::Cancel { job } => {
            let verb = Verb::CancelJob { job: JobId(job) };
            verbs::tell(reach, teller("cancel"), verb)
        }
        Command::Why { job } => verbs::why(reach, teller("why"), job),
        Command::Plan { model, size } => verbs::plan(reach, model, size.as_deref(), json),
        Command::Pin { model } => verbs::tell_of_name(reach, teller("pin"), pin(model, true)),
        Command::Evict { model } => {
            verbs::tell_of_name(reach, teller("evict"), Verb::Evict { model })
        }
        Command::Yield { seconds } => {
            verbs::sentence(reach, teller("yield"), Verb::Yield { seconds })
        }
        Command::Unpin { model } => verbs::tell_of_name(reach, teller("unpin"), pin(model, false)),
        Command::Scale { model, workers } => {
            verbs::tell_of_name(reach, teller("scale"), Verb::Scale { model, workers })
        }
        Command::Quarantine { what } => verbs::quarantine(reach, teller("quarantine"), what),
        Command::LastCrash {
            name,
            all,
            most,
            state_dir,
        } => {
            let most = if all { u32::MAX } else { most };
            let source = ObituarySource::choose(reach, state_dir)?;
            last_crash::run(source, name.as_deref(), most, json)
        }
        Command::Models { what } => models::run(what, reach.quiet, json),
        Command::Replay { file } => replay::run(reach, &file, json),
        Command::Top { count } => top::run(reach, count, json, arguments.color),
        Command::Doctor { chaos: true } => doctor::chaos::run(reach, json, arguments.color),
        Command::Doctor { chaos: false } => doctor::run(reach, json, arguments.color),
        Command::Version => verbs::version(reach, json),
        Command::CompleteNames { line } => Ok(shell::print_names(reach, &line)),
    }
}
