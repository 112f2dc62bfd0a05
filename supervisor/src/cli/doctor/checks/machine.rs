//! The facts that several checks share.

use std::path::PathBuf;

use ipc_protocol::client::ClientError;
use ipc_protocol::folders;
use ipc_protocol::status::StatusReport;

use crate::cli::args::ConnectOptions;
use crate::cli::daemon::connect;
use crate::config::{self, Config, paths};

/// The settings, the folders and the daemon of this machine.
#[derive(Debug)]
pub struct Machine {
    /// The settings file, if there is one.
    pub file: Option<PathBuf>,
    /// The settings; the default ones if the file is invalid.
    pub config: Config,
    /// Why the settings file is invalid.
    pub invalid: Option<String>,
    /// The runtime folder of this user.
    pub runtime_dir: PathBuf,
    /// The daemon that answers.
    pub daemon: Result<ServingDaemon, ClientError>,
}

/// A daemon that answers.
#[derive(Debug)]
pub struct ServingDaemon {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// The state of its pool.
    pub report: StatusReport,
}

impl Machine {
    /// Looks all of it up.
    pub fn look(reach: &ConnectOptions) -> Self {
        let file = paths::default_config();
        let (config, invalid) = match config::load(file.as_deref()) {
            Ok(config) => (config, None),
            Err(error) => {
                let defaults = config::load(None).expect("the defaults are valid settings");
                (defaults, Some(error.to_string()))
            }
        };
        Self {
            file,
            config,
            invalid,
            runtime_dir: folders::runtime(),
            daemon: daemon(reach),
        }
    }

    /// The process whose limits and groups count: the daemon's, else this one.
    pub fn examined_pid(&self) -> u32 {
        match &self.daemon {
            Ok(daemon) => daemon.pid,
            Err(_) => std::process::id(),
        }
    }

    /// The name of that process in a sentence.
    pub fn examined(&self) -> String {
        match &self.daemon {
            Ok(daemon) => format!("the daemon (pid {})", daemon.pid),
            Err(_) => "this shell".to_owned(),
        }
    }
}

fn daemon(reach: &ConnectOptions) -> Result<ServingDaemon, ClientError> {
    let mut client = connect::daemon(reach)?;
    let report = client.status()?;
    Ok(ServingDaemon {
        pid: client.pid,
        version: client.version,
        report,
    })
}
