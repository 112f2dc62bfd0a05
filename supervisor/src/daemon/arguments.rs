//! The arguments of the program `supervisor`.

use std::path::PathBuf;

use clap::{CommandFactory, Parser};

use crate::telemetry::logging::LogFormat;

/// The image pool's daemon: manages models and memory, and starts a worker process per loaded model.
#[derive(Debug, Parser)]
#[command(version, name = "supervisor")]
pub struct DaemonArguments {
    /// Settings file; see imagepool.example.toml.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder of the sockets.
    #[arg(long, value_name = "DIR")]
    pub runtime_dir: Option<PathBuf>,
    /// Folder of the journal and the obituaries [default: $STATE_DIRECTORY, $XDG_STATE_HOME/imagepool].
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Address of the HTTP door, unix:PATH or HOST:PORT.
    #[arg(long, value_name = "ADDRESS")]
    pub http: Option<String>,
    /// Format of log lines.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Log level error, warn, info or debug, or a filter like supervisor=debug.
    #[arg(long, value_name = "L", default_value = "info")]
    pub log_level: String,
    /// Record every event in a file that the simulator can replay.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Start workers without their sandbox.
    #[arg(long)]
    pub no_sandbox: bool,
    /// Check the settings and the models, print the result, and exit.
    #[arg(long)]
    pub check_config: bool,
    /// Serve one caller: exit when the socket on descriptor 0 closes.
    #[arg(long, hide = true)]
    pub leashed: bool,
    /// Ask the GPU driver's library, print its answer as JSON, and exit.
    #[arg(long, hide = true)]
    pub probe_gpus: bool,
    /// The library to ask.
    #[arg(long, hide = true, value_name = "FILE", requires = "probe_gpus")]
    pub library: Option<PathBuf>,
    /// The process that waits for the answer; this process ends with it.
    #[arg(long, hide = true, value_name = "PID", requires = "probe_gpus")]
    pub parent: Option<u32>,
}

/// The definition of `supervisor` with all options, for its manual page.
pub fn definition() -> clap::Command {
    DaemonArguments::command()
}
