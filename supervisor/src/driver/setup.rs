//! The setup of the loop: the pool with its registry and budget, and the tools for its actions.

use std::io;
use std::path::{Path, PathBuf};

use ipc_protocol::ids::Device;
use ipc_protocol::segment::Backing;
use ipc_protocol::units::Mebibytes;
use pool::{DeviceLimit, Pool};

use crate::catalogue::library::Library;
use crate::catalogue::offer;
use crate::catalogue::served::Catalogue;
use crate::clock::Clock;
use crate::config::Config;
use crate::probe;
use crate::record::beginning::Beginning;
use crate::record::recorder::Recorder;

/// The loop's needs from outside.
#[derive(Debug)]
pub struct Setup {
    /// The mind.
    pub pool: Pool,
    /// The pool's settings, models and limits, for the record.
    pub beginning: Beginning,
    /// How workers of each model are started.
    pub catalogue: Catalogue,
    /// The library that inspects a model's files again.
    pub library: Library,
    /// Back end of the segments.
    pub backing: Backing,
    /// The clock that the pool's moments come from.
    pub clock: Clock,
    /// Where every event is written down, if anywhere.
    pub recorder: Option<Recorder>,
}

impl Setup {
    /// A pool as the settings want it, on this machine. No model's files are looked at yet.
    ///
    /// # Errors
    /// A sentence that names the section of a model that cannot be offered.
    pub fn assemble(
        config: &Config,
        worker_program: PathBuf,
        clock: Clock,
    ) -> Result<Self, String> {
        let (registry, catalogue) = offer::models(config)?;
        let host = DeviceLimit {
            device: Device::Host,
            limit: host_limit(config),
            confirms: false,
        };
        let beginning = Beginning {
            settings: config.text.clone(),
            devices: vec![host],
            registry: registry.clone(),
        };
        Ok(Self {
            pool: Pool::new(config.pool.clone(), registry, vec![host]),
            beginning,
            catalogue,
            library: Library::new(config.clone(), worker_program),
            backing: config.backing,
            clock,
            recorder: None,
        })
    }

    /// The same, with every event written to a file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn recorded(self, path: &Path) -> io::Result<Self> {
        Ok(Self {
            recorder: Some(Recorder::begin(path, &self.beginning)?),
            ..self
        })
    }
}

/// Returns the limit of the host's memory: as set, else a share of what this daemon may use.
fn host_limit(config: &Config) -> Mebibytes {
    let share = || Mebibytes(probe::host_memory().0 * config.limit_percent / 100);
    config.host_limit.unwrap_or_else(share)
}
