//! The arguments of `imagepool`, and its help texts.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueHint};

use super::colour::ColourChoice;
use super::{examples, number};
use crate::picture::format::PictureFormat;

/// Draws pictures from prompts with the models on this machine. Without a command, opens a shell that takes the commands below.
#[derive(Debug, Parser)]
#[command(version, name = "imagepool", disable_help_subcommand = false)]
pub struct CommandLine {
    #[command(flatten)]
    // No doc comment: clap would print it as the command's help.
    pub reach: ConnectOptions,
    /// Print results as JSON on stdout; on stderr if the picture is on stdout.
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// Colours in the output: `auto` for terminals, unless $NO_COLOR is set.
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t, help_heading = GLOBAL)]
    pub color: ColourChoice,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Heading of the options that every command takes.
const GLOBAL: &str = "Global options";

/// The definition of `imagepool` with all commands, options and examples.
pub fn definition() -> clap::Command {
    examples::attach(CommandLine::command())
}

/// Parses a command line, with the name of the program as its first word.
///
/// # Errors
/// Help, the version, or a usage error: all of them are printed with [`say::usage`](super::say::usage).
pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<CommandLine, clap::Error> {
    let mut definition = definition().allow_external_subcommands(true);
    let matches = definition.try_get_matches_from_mut(words)?;
    if let Some(word) = matches.subcommand_name()
        && definition.find_subcommand(word).is_none()
    {
        let unknown = format!("unknown command {word:?}");
        return Err(definition.error(ErrorKind::InvalidSubcommand, unknown));
    }
    CommandLine::from_arg_matches(&matches)
}

/// A usage error in one line, without the usage.
pub fn fault(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let fault = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = fault.split_whitespace().collect();
    let line = words.join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

/// The options about the daemon and the amount of output, which every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = GLOBAL)]
pub struct ConnectOptions {
    /// Socket of the daemon [default: $IMAGEPOOL_SOCKET].
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Start a private pool for this call even if a daemon runs: generate, plan, replay.
    #[arg(long, global = true)]
    pub private: bool,
    /// How long to wait for the daemon if it ends before the answer; 0 means not at all.
    #[arg(long, global = true, value_name = "SECONDS", default_value = "30")]
    pub reconnect: Reconnect,
    /// Print only errors.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Print more: the reasons in `status`, the log of a private pool.
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

/// How long a command waits for the daemon.
#[derive(Debug, Clone, Copy)]
pub struct Reconnect(pub Duration);

impl FromStr for Reconnect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let seconds = text
            .parse()
            .ok()
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let seconds = seconds.map(Self);
        seconds.ok_or_else(|| "use seconds, 0 or more".to_owned())
    }
}

impl ConnectOptions {
    /// The socket given by `--socket` or `$IMAGEPOOL_SOCKET`; an empty variable counts as unset.
    pub fn named_socket(&self) -> Option<PathBuf> {
        let in_environment =
            || std::env::var_os("IMAGEPOOL_SOCKET").filter(|path| !path.is_empty());
        let named = self.socket.clone();
        named.or_else(|| in_environment().map(PathBuf::from))
    }
}

/// The command to run.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Draw pictures from a prompt.
    Generate(Box<Generate>),
    /// Print the state of workers and models.
    #[command(visible_alias = "ps")]
    Status {
        /// Workers (`MODEL:SLOT`) or models (`MODEL`, `MODEL:*`) [default: all].
        names: Vec<String>,
    },
    /// Stop workers, models or all, and keep them stopped.
    Stop {
        /// `MODEL:SLOT`, `MODEL`, `MODEL:*` or `all`.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Start stopped or idle models, and keep them resident.
    Start {
        /// `MODEL:SLOT`, `MODEL`, `MODEL:*` or `all`.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Stop, then start.
    Restart {
        /// `MODEL:SLOT`, `MODEL`, `MODEL:*` or `all`.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Send a signal to workers.
    Signal {
        /// Name or number of the signal: `HUP`, `SIGHUP`, `1`.
        signal: String,
        /// `MODEL:SLOT`, `MODEL`, `MODEL:*` or `all`.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Print the end of what a worker has written: 1600 bytes, or N.
    #[command(override_usage = "imagepool tail [-f] [-N] NAME")]
    Tail {
        /// Print further lines too, until Ctrl-C.
        #[arg(short, long)]
        follow: bool,
        /// `MODEL:SLOT`, or `MODEL` for its slot 0; `-N` before it is the number of bytes.
        #[arg(required = true, value_name = "NAME", allow_negative_numbers = true)]
        words: Vec<String>,
    },
    /// Print the end of the daemon's log: 1600 bytes, or N.
    #[command(override_usage = "imagepool maintail [-f] [-N]")]
    Maintail {
        /// Print further lines too, until Ctrl-C.
        #[arg(short, long)]
        follow: bool,
        /// The number of bytes, as in `-100`.
        #[arg(value_name = "-N", allow_negative_numbers = true)]
        words: Vec<String>,
    },
    /// Forget what workers have written so far.
    Clear {
        /// `MODEL:SLOT`, `MODEL`, `MODEL:*` or `all`.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// List the models of the settings file: whether they are in use, and whether they start by themselves. The last column
    /// is supervisorctl's default priority: models start when they are needed, in no fixed order.
    Avail,
    /// Compare the settings file with the settings in use; changes nothing.
    Reread,
    /// Add, replace and remove the models that differ in the settings file. Accepted jobs are finished first: it returns when
    /// the workers from before have left, those of an earlier update among them.
    Update {
        /// Keys of the models [default: all].
        #[arg(value_name = "KEY")]
        models: Vec<String>,
    },
    /// Apply the settings file without a restart, and lift every stop; settings that need a restart are named.
    Reload,
    /// Print the newest events of the pool.
    Events {
        /// Print further events too, until Ctrl-C.
        #[arg(short, long)]
        follow: bool,
    },
    /// Print the process id of the daemon, or of workers.
    Pid {
        /// `MODEL:SLOT`, `MODEL`, `MODEL:*` or `all` [default: the daemon].
        names: Vec<String>,
    },
    /// Drain the daemon, then stop it.
    Shutdown,
    /// Reject new requests and finish the accepted ones; the daemon keeps running. `drain --undo` accepts requests again.
    Drain {
        /// Accept requests again.
        #[arg(long)]
        undo: bool,
    },
    /// List your waiting and running jobs, and the detached ones that ended; an operator's list has those of all users.
    Jobs,
    /// Wait for a detached job and write its picture; Ctrl-C ends the wait, not the job.
    Wait(Wait),
    /// Cancel a job; its client gets an error.
    Cancel {
        /// Job id, as `imagepool jobs` lists it.
        #[arg(value_parser = job)]
        job: u64,
    },
    /// Explain why a job waits, with numbers.
    Why {
        /// Job id, as `imagepool jobs` lists it.
        #[arg(value_parser = job)]
        job: u64,
    },
    /// Print the memory that a picture needs, and whether it fits; exits with 1 if it never does.
    Plan {
        /// Key or alias of the model.
        model: String,
        /// Size in pixels, `WxH` [default: the model's].
        #[arg(long, allow_hyphen_values = true)]
        size: Option<String>,
    },
    /// Keep a model in memory.
    Pin {
        /// Key or alias of the model.
        model: String,
    },
    /// Allow an idle model to be stopped.
    Unpin {
        /// Key or alias of the model.
        model: String,
    },
    /// Stop the idle workers of a model; the next request starts workers again.
    Evict {
        /// Key or alias of the model.
        model: String,
    },
    /// Leave the memory of idle workers to other programs for a while; jobs wait. Running jobs are finished first.
    Yield {
        /// Seconds, at most a day; 0 ends an earlier one.
        #[arg(value_parser = yield_seconds, allow_hyphen_values = true)]
        seconds: u32,
    },
    /// Set the number of workers that a model keeps.
    Scale {
        /// Key or alias of the model.
        model: String,
        /// Number of workers; 0 or more.
        #[arg(value_parser = workers, allow_hyphen_values = true)]
        workers: u32,
    },
    /// List or release requests that are blocked because they crashed workers.
    Quarantine {
        /// The subcommand. Defaults to `list`.
        #[command(subcommand)]
        what: Option<QuarantineCommand>,
    },
    /// Print how a worker crashed: its end, its job, its memory and its last lines; exits with 1 if none has.
    LastCrash {
        /// `MODEL:SLOT`, `MODEL` or `MODEL:*` [default: all].
        name: Option<String>,
        /// Print all that are kept, newest first.
        #[arg(long, conflicts_with = "number")]
        all: bool,
        /// Print the newest N.
        #[arg(short = 'n', long = "count", id = "number", value_name = "N", default_value = "1", value_parser = crashes)]
        most: u32,
        /// Read this state folder of a daemon instead of asking a daemon.
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        state_dir: Option<PathBuf>,
    },
    /// List, fetch, verify and delete model files.
    Models {
        /// The subcommand. Defaults to `list`.
        #[command(subcommand)]
        what: Option<ModelsCommand>,
    },
    /// Draw a picture again from the receipt in its file, and compare.
    Replay {
        /// A PNG that `generate` wrote.
        file: PathBuf,
    },
    /// Show workers, jobs and memory, anew each second; `q` ends it, `s` changes the order.
    Top {
        /// Number of reports; without a terminal 1, with `--json` any number [default: until it is stopped].
        #[arg(short = 'n', long = "count", value_parser = reports, allow_hyphen_values = true)]
        count: Option<u64>,
    },
    /// Check this machine, and say what to change; exits with 1 if something must be mended.
    Doctor {
        /// Kill and stop workers of a private pool while they draw, and print the recovery times; exits with 1 if a job was
        /// lost.
        #[arg(long)]
        chaos: bool,
    },
    /// Print the versions of this program and of the daemon.
    Version,
    /// Print the names of models, workers and jobs that complete a line; for the completions of shells.
    #[command(hide = true)]
    CompleteNames {
        /// The line up to the cursor.
        line: String,
    },
}

impl Command {
    /// Whether the command starts a private pool if no daemon runs.
    pub fn draws(&self) -> bool {
        matches!(
            self,
            Self::Generate(_) | Self::Plan { .. } | Self::Replay { .. }
        )
    }
}

/// The subcommands of `models`.
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// List the models: state and size of their files, and licence.
    List,
    /// Print a model's files and digests, its licence, and the memory it needs.
    Show {
        /// Key of the model.
        model: String,
    },
    /// Download a model's files; an interrupted download resumes.
    Fetch {
        /// Key of the model.
        model: String,
        /// Variant of the model; `show` lists them.
        #[arg(long)]
        variant: Option<String>,
        /// Branch, tag or commit of the hub's repository.
        #[arg(long)]
        revision: Option<String>,
    },
    /// Compare a model's files with their known digests.
    Verify {
        /// Key of the model [default: all fetched models].
        model: Option<String>,
    },
    /// Delete a model's downloaded files.
    Rm {
        /// Key of the model.
        model: String,
    },
}

/// The subcommands of `quarantine`.
#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// List the quarantined requests, with the crashes that put them there.
    List,
    /// Allow one request again.
    Release {
        /// Digest of the request, as `list` prints it.
        digest: String,
    },
    /// Allow all quarantined requests again.
    Drop,
}

fn job(text: &str) -> Result<u64, String> {
    let takes = "a whole number, as `imagepool jobs` lists them";
    number::argument("JOB", text, takes)
}

fn crashes(text: &str) -> Result<u32, String> {
    number::argument("N", text, "a whole number, 1 or more").map(NonZeroU32::get)
}

fn reports(text: &str) -> Result<u64, String> {
    let takes = "a whole number, 1 or more";
    match number::argument("-n", text, takes)? {
        0 => Err(format!("\"0\" is invalid: -n takes {takes}")),
        count => Ok(count),
    }
}

fn workers(text: &str) -> Result<u32, String> {
    number::argument("WORKERS", text, "a whole number, 0 or more")
}

/// The longest time for which memory is left to other programs: a day.
const YIELD_SECONDS_MAX: u32 = 86_400;

fn yield_seconds(text: &str) -> Result<u32, String> {
    let takes = "a whole number, 0 to 86400";
    let seconds: u32 = number::argument("SECONDS", text, takes)?;
    match seconds <= YIELD_SECONDS_MAX {
        true => Ok(seconds),
        false => Err(format!("{seconds} is more than a day: use {takes}")),
    }
}

/// The arguments of `generate`.
#[derive(Debug, Args)]
pub struct Generate {
    /// Prompt; `-` reads it from stdin, at most 60 KiB.
    pub prompt: String,
    /// Key or alias of the model [default: the daemon's default model].
    #[arg(short, long)]
    pub model: Option<String>,
    /// Output file; `-` is stdout; pipes and devices are written to directly. With -n 2 or more, `a.png`
    /// becomes `a-1.png`, `a-2.png` …
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<String>,
    /// Overwrite an existing file or the target of a link; allow a terminal as output.
    #[arg(short, long)]
    pub force: bool,
    /// Size in pixels, `WxH` [default: the model's].
    #[arg(long, allow_hyphen_values = true)]
    pub size: Option<String>,
    /// Number of denoising steps [default: the model's].
    #[arg(long, allow_hyphen_values = true)]
    pub steps: Option<String>,
    /// Guidance scale, if the model supports it.
    #[arg(long, allow_hyphen_values = true)]
    pub guidance: Option<String>,
    /// Negative prompt; needs a guidance above 1.
    #[arg(long)]
    pub negative: Option<String>,
    /// Seed of the first picture, incremented for each further one [default: random].
    #[arg(long, allow_hyphen_values = true)]
    pub seed: Option<String>,
    /// Number of pictures.
    #[arg(
        short = 'n',
        long = "count",
        default_value = "1",
        allow_hyphen_values = true
    )]
    pub count: String,
    /// File format [default: from the extension .png, .jpg, .jpeg or .webp; else PNG].
    #[arg(long, value_enum)]
    pub format: Option<PictureFormat>,
    /// Device: `auto`, `cpu` or `cuda:N`.
    #[arg(long)]
    pub device: Option<String>,
    /// Priority: `high`, `normal` or `low`.
    #[arg(long)]
    pub priority: Option<String>,
    /// Time limit in seconds; the job fails if it takes longer.
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub timeout: Option<String>,
    /// Write neither the receipt nor the mark of generated pictures into the file.
    #[arg(long)]
    pub no_metadata: bool,
    /// Print the job ids as soon as the daemon has accepted them; `wait` gets the pictures later. They are kept for
    /// pool.result_seconds, also over a restart of the daemon.
    #[arg(long, conflicts_with_all = ["output", "force", "format", "no_metadata", "show"])]
    pub detach: bool,
    /// User that the job counts for: a user of this machine or one named in the settings, or USER/NAME for a client of
    /// one. Only root and the daemon's own user may set it.
    #[arg(long = "as", value_name = "USER")]
    pub user: Option<String>,
    /// Show the picture in the terminal.
    #[arg(long)]
    pub show: bool,
}

/// The arguments of `wait`.
#[derive(Debug, Args)]
pub struct Wait {
    /// Job id, as `generate --detach` printed it and `imagepool jobs` lists it.
    #[arg(value_parser = job)]
    pub job: u64,
    /// Output file; `-` is stdout; pipes and devices are written to directly [default: imagepool-JOB.png].
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<String>,
    /// Overwrite an existing file or the target of a link; allow a terminal as output.
    #[arg(short, long)]
    pub force: bool,
    /// File format [default: from the extension .png, .jpg, .jpeg or .webp; else PNG].
    #[arg(long, value_enum)]
    pub format: Option<PictureFormat>,
    /// Write neither the receipt nor the mark of generated pictures into the file.
    #[arg(long)]
    pub no_metadata: bool,
    /// Show the picture in the terminal.
    #[arg(long)]
    pub show: bool,
}
