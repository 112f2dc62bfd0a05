//! The grammar of `imagepool`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::number;
use crate::picture::format::PictureFormat;

/// Draws pictures from words with the pool of models on this machine.
#[derive(Debug, Parser)]
#[command(version, name = "imagepool", disable_help_subcommand = false)]
pub struct CommandLine {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would become the command's help"
    )]
    pub reach: ConnectOptions,
    /// Answers as JSON on stdout.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Which daemon, and how much to say.
#[derive(Debug, Clone, Args)]
pub struct ConnectOptions {
    /// The daemon's socket; else $IMAGEPOOL_SOCKET.
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Use a pool of one's own for this call, whether a daemon runs or not: generate, plan, replay.
    #[arg(long, global = true)]
    pub private: bool,
    /// Say nothing but errors.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say what a private pool does.
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

impl ConnectOptions {
    /// The socket that was named; an empty variable names none.
    pub fn named_socket(&self) -> Option<PathBuf> {
        let in_environment =
            || std::env::var_os("IMAGEPOOL_SOCKET").filter(|path| !path.is_empty());
        let named = self.socket.clone();
        named.or_else(|| in_environment().map(PathBuf::from))
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Draw pictures of a prompt.
    Generate(Box<Generate>),
    /// Tell how workers and models are.
    #[command(visible_alias = "ps")]
    Status {
        /// Workers (`MODEL:SLOT`) or models (`MODEL`, `MODEL:*`); all where none is named.
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
    /// Print the daemon's process, or those of workers.
    Pid {
        /// `MODEL:SLOT`, `MODEL`, `MODEL:*` or `all`; the daemon where none is named.
        names: Vec<String>,
    },
    /// Drain the daemon and end it.
    Shutdown,
    /// Take nothing new, finish what is accepted, stay up.
    Drain {
        /// Take requests again.
        #[arg(long)]
        undo: bool,
    },
    /// List the jobs without an answer.
    Jobs,
    /// End a job; whoever waits for it is told.
    Cancel {
        /// The job.
        #[arg(value_parser = job)]
        job: u64,
    },
    /// Say why a job waits, with numbers.
    Why {
        /// The job.
        #[arg(value_parser = job)]
        job: u64,
    },
    /// Print what a picture would take, and whether it fits; ends with 1 where it never does.
    Plan {
        /// Key or alias.
        model: String,
        /// Pixels, `WxH`; else the model's default.
        #[arg(long, allow_hyphen_values = true)]
        size: Option<String>,
    },
    /// Keep a model resident.
    Pin {
        /// Key or alias.
        model: String,
    },
    /// Let a model go when it is idle.
    Unpin {
        /// Key or alias.
        model: String,
    },
    /// Keep this many workers of a model.
    Scale {
        /// Key or alias.
        model: String,
        /// How many.
        #[arg(value_parser = workers, allow_hyphen_values = true)]
        workers: u32,
    },
    /// Requests that ended every worker they were given to.
    Quarantine {
        /// What to do with them.
        #[command(subcommand)]
        what: Option<QuarantineCommand>,
    },
    /// Models on this machine and on the hub: their files, licences and digests.
    Models {
        /// What to do with them.
        #[command(subcommand)]
        what: Option<ModelsCommand>,
    },
    /// Draw the picture of a file again, as its receipt says, and compare.
    Replay {
        /// A PNG that `generate` wrote.
        file: PathBuf,
    },
    /// Print the versions of this program and of the daemon.
    Version,
    /// Everything that is planned and not there yet.
    #[command(external_subcommand)]
    Later(Vec<String>),
}

impl Command {
    /// Whether it asks a pool of its own where no daemon runs.
    pub fn draws(&self) -> bool {
        matches!(
            self,
            Self::Generate(_) | Self::Plan { .. } | Self::Replay { .. }
        )
    }
}

/// `models`
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// Print every model: whether its files are here, how large they are, their licence.
    List,
    /// Print one model's files and digests, its licence, and the memory it takes.
    Show {
        /// Key.
        model: String,
    },
    /// Bring a model's files to this machine; goes on where an earlier fetch stopped.
    Fetch {
        /// Key.
        model: String,
        /// Which of its files, as `show` lists the choices.
        #[arg(long)]
        variant: Option<String>,
        /// A branch, a tag or a commit.
        #[arg(long)]
        revision: Option<String>,
    },
    /// Read a model's files again and compare them with their digests, where these are known.
    Verify {
        /// Key; all fetched models where none is named.
        model: Option<String>,
    },
    /// Delete the fetched files of a model.
    Rm {
        /// Key.
        model: String,
    },
}

/// `quarantine`
#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// Print them, with the evidence.
    List,
    /// Let one in again.
    Release {
        /// As the list prints it.
        digest: String,
    },
    /// Forget all of them.
    Drop,
}

fn job(text: &str) -> Result<u64, String> {
    let takes = "a whole number, as `imagepool jobs` lists them";
    number::argument("JOB", text, takes)
}

fn workers(text: &str) -> Result<u32, String> {
    number::argument("WORKERS", text, "a whole number from 0 on")
}

/// Commands of the interface that a later version brings.
const LATER: [&str; 14] = [
    "signal",
    "tail",
    "clear",
    "avail",
    "reread",
    "update",
    "reload",
    "wait",
    "last-crash",
    "events",
    "top",
    "doctor",
    "fg",
    "shell",
];

/// The planned command that was asked for, or what to say of one that nobody plans.
pub fn known_later(words: &[String]) -> &'static str {
    let word = words.first().map_or("", String::as_str);
    LATER
        .into_iter()
        .find(|later| *later == word)
        .unwrap_or("this command")
}

/// Whether a word is a planned command; any other unknown word is a usage error.
pub fn is_planned(word: &str) -> bool {
    LATER.contains(&word)
}

/// `generate`
#[derive(Debug, Args)]
pub struct Generate {
    /// What to draw; `-` reads it from stdin, at most 60 KiB.
    pub prompt: String,
    /// Which model.
    #[arg(short, long)]
    pub model: Option<String>,
    /// Where the picture goes; `-` is stdout, a pipe or device is written to. With -n several, `a.png`
    /// becomes `a-1.png`, `a-2.png` …
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<String>,
    /// Overwrite a file, or the one that a link leads to; write to a terminal.
    #[arg(short, long)]
    pub force: bool,
    /// Pixels, `WxH`.
    #[arg(long, allow_hyphen_values = true)]
    pub size: Option<String>,
    /// Denoising steps.
    #[arg(long, allow_hyphen_values = true)]
    pub steps: Option<String>,
    /// Guidance scale, where the model has one.
    #[arg(long, allow_hyphen_values = true)]
    pub guidance: Option<String>,
    /// What not to draw, where guidance is above 1.
    #[arg(long)]
    pub negative: Option<String>,
    /// Seed of the first picture; the next ones count up.
    #[arg(long, allow_hyphen_values = true)]
    pub seed: Option<String>,
    /// How many pictures.
    #[arg(
        short = 'n',
        long = "count",
        default_value = "1",
        allow_hyphen_values = true
    )]
    pub count: String,
    /// What the file holds; else its ending says: .png, .jpg, .jpeg or .webp. PNG without an ending.
    #[arg(long, value_enum)]
    pub format: Option<PictureFormat>,
    /// `auto`, `cpu` or `cuda:N`.
    #[arg(long)]
    pub device: Option<String>,
    /// `high`, `normal` or `low`.
    #[arg(long)]
    pub priority: Option<String>,
    /// Seconds after which the answer is worth nothing.
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub timeout: Option<String>,
    /// Leave the receipt out of the file.
    #[arg(long)]
    pub no_metadata: bool,
    /// Return at once; `wait` fetches the picture.
    #[arg(long)]
    pub detach: bool,
    /// On whose behalf.
    #[arg(long = "as", value_name = "USER")]
    pub user: Option<String>,
    /// Show the picture in the terminal.
    #[arg(long)]
    pub show: bool,
}
