//! What the loop is made of: the pool with its registry and books, and what its hands need.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use ipc_protocol::arithmetic::Arithmetic;
use ipc_protocol::ids::Device;
use ipc_protocol::segment::Backing;
use ipc_protocol::units::Mebibytes;
use pool::{DeviceLimit, ModelSpec, Pool, Registry};

use super::library::Library;
use crate::clock::Clock;
use crate::config::Config;
use crate::config::models;
use crate::config::served::{Catalogue, Served};
use crate::facts::FolderFacts;
use crate::hub;
use crate::hub::fetch;
use crate::hub::store::Store;
use crate::journal::beginning::Beginning;
use crate::journal::recorder::Recorder;
use crate::probe;
use crate::process::spawn;

/// What the loop needs from outside.
#[derive(Debug)]
pub struct Setup {
    /// The mind.
    pub pool: Pool,
    /// What it was made of.
    pub beginning: Beginning,
    /// How workers of each model are started.
    pub catalogue: Catalogue,
    /// What it takes to look at a model's files again.
    pub library: Library,
    /// Back end of the segments.
    pub backing: Backing,
    /// The clock that the pool's moments come from.
    pub clock: Clock,
    /// Where every event is written down, if anywhere.
    pub recorder: Option<Recorder>,
}

impl Setup {
    /// A pool as the settings want it, on this machine.
    ///
    /// # Errors
    /// A sentence that names the section of a model that cannot be offered.
    pub fn assemble(
        config: &Config,
        worker_program: PathBuf,
        clock: Clock,
    ) -> Result<Self, String> {
        let (registry, catalogue) = models(config, &worker_program)?;
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
            library: Library {
                config: Arc::new(config.clone()),
                worker_program,
            },
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

/// The models of these settings: for the pool, and for the hands.
///
/// # Errors
/// A sentence that names the section of a model that cannot be offered.
pub fn models(config: &Config, worker_program: &Path) -> Result<(Registry, Catalogue), String> {
    with_facts(config, worker_program, |facts| {
        models::build(&config.models, facts)
    })
}

/// One model of these settings.
///
/// # Errors
/// A sentence that names its section.
pub fn model(
    config: &Config,
    worker_program: &Path,
    key: &str,
) -> Result<(ModelSpec, Served), String> {
    let section = config.models.get(key).cloned().unwrap_or_default();
    with_facts(config, worker_program, |facts| {
        models::one(key, &section, facts)
    })
}

fn with_facts<T>(
    config: &Config,
    worker_program: &Path,
    build: impl FnOnce(&models::Facts<'_>) -> Result<T, String>,
) -> Result<T, String> {
    let store = Store::at(hub_settings(config).folder);
    build(&models::Facts {
        built_in: hub::built_in()?,
        inspect: &|path, family, arithmetic| inspect(worker_program, path, family, arithmetic),
        fetched: &|key, section| {
            let (variant, revision) = (section.variant.as_deref(), section.revision.as_deref());
            let found = store.wanted(key, variant, revision)?;
            Ok(found.map(|found| (found.folder, found.record.digest())))
        },
        threads: threads_per_worker(config),
    })
}

/// How the hub may be used, and where what was fetched is.
pub fn hub_settings(config: &Config) -> fetch::Settings {
    fetch::Settings {
        offline: config.hub.offline,
        endpoint: config.hub.endpoint.clone(),
        folder: config
            .hub
            .folder
            .clone()
            .unwrap_or_else(Store::default_root),
        patience: config.hub.patience,
    }
}

/// What may be promised of the host's memory: as set, else a share of what this daemon may use.
fn host_limit(config: &Config) -> Mebibytes {
    let share = || Mebibytes(probe::host_memory().0 * config.limit_percent / 100);
    config.host_limit.unwrap_or_else(share)
}

/// Threads of a worker's arithmetic: the cores, shared among the workers of a cold start.
fn threads_per_worker(config: &Config) -> u32 {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    (cores as u32 / config.pool.cold_start_workers.max(1)).max(1)
}

/// Lets the worker program look at a folder of weights; its own sentence names the file.
fn inspect(
    worker: &Path,
    folder: &Path,
    family: Option<&str>,
    arithmetic: Arithmetic,
) -> Result<FolderFacts, String> {
    let said = spawn::inspect(worker, folder, family, arithmetic);
    let said = said.map_err(|error| error.to_string())??;
    hub::read_manifest(&said)
}
