//! Where a daemon's settings come from, at its start and at each reload.

use std::path::PathBuf;

use super::http::HttpAddress;
use super::operators::OperatorIds;
use super::{Config, ConfigError, load, paths};

/// The settings file of a daemon, and the options that replace parts of it.
#[derive(Debug, Clone, Default)]
pub struct SettingsSource {
    /// The file that was named; `None` for the first that exists at the usual paths.
    pub file: Option<PathBuf>,
    /// The address of the HTTP door, if an option names it.
    pub http: Option<HttpAddress>,
    /// Whether an option switches the sandbox of workers off.
    pub no_sandbox: bool,
    /// Whether the daemon serves one caller.
    pub leashed: bool,
}

impl SettingsSource {
    /// The file that is read now; `None` if there is none, so that the defaults apply.
    pub fn file(&self) -> Option<PathBuf> {
        self.file.clone().or_else(paths::default_config)
    }

    /// Reads the settings.
    ///
    /// # Errors
    /// The file is unreadable or invalid.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let mut config = load(self.file().as_deref())?;
        if self.leashed {
            // One caller waits for one picture: a second worker would only compete for the cores.
            config.pool.cold_start_workers = 1;
            // Only the caller's user may connect.
            config.socket_mode = 0o600;
            config.operators = OperatorIds::default();
        }
        config.sandbox &= !self.no_sandbox;
        if let Some(address) = &self.http {
            config.http.address = Some(address.clone());
        }
        Ok(config)
    }
}
