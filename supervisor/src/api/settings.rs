//! Reads the settings again for the loop, and gives the doors their part.

use std::path::PathBuf;

use super::http::policy::SharedPolicy;
use super::jobs::store::{JobStore, ResultLimits};
use super::rights::{KnownUsers, Operators};
use crate::config::source::SettingsSource;
use crate::driver::settings::{ReadSettings, SettingsReader};

/// The doors, and where their settings come from.
#[derive(Debug)]
pub struct DoorsReader {
    /// The settings file.
    pub source: SettingsSource,
    /// The runtime folder, where a token is made if the settings have none.
    pub folder: PathBuf,
    /// The users that the settings name.
    pub operators: Operators,
    /// The kept pictures.
    pub jobs: JobStore,
    /// The policy of the HTTP door, if there is one.
    pub http: Option<SharedPolicy>,
}

impl SettingsReader for DoorsReader {
    fn read(&self) -> Result<ReadSettings, String> {
        let config = self.source.load().map_err(|error| error.to_string())?;
        let file = self.source.file();
        let place = file.map_or_else(|| "the defaults".into(), |file| file.display().to_string());
        let policy = match &self.http {
            Some(shared) => {
                let policy = shared.next(&config, &self.folder);
                let policy = policy.map_err(|error| format!("{place}: {error}"))?;
                Some((shared.clone(), policy))
            }
            None => None,
        };
        let (operators, known) = (self.operators.clone(), KnownUsers::of(&config));
        let jobs = self.jobs.clone();
        let limits = ResultLimits {
            keep: config.result_keep,
            memory_mb: config.result_mb,
        };
        let apply = move || {
            operators.replace(known);
            jobs.set_limits(limits);
            if let Some((shared, policy)) = policy {
                shared.replace(policy);
            }
        };
        Ok(ReadSettings {
            config,
            place,
            apply: Box::new(apply),
        })
    }
}
