//! The models that settings offer: for the pool, and for the hands.

use std::path::Path;
use std::thread;

use ipc_protocol::arithmetic::Arithmetic;
use ipc_protocol::untrusted::Untrusted;
use pool::{ModelSpec, Registry};

use crate::config::Config;
use crate::config::models;
use crate::config::served::{Catalogue, Served};
use crate::facts::FolderFacts;
use crate::hub;
use crate::hub::fetch;
use crate::hub::store::Store;
use crate::process::spawn;

/// All models of these settings.
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
    let said = said.map_err(|error| error.to_string())?;
    // It quotes names of files and tensors.
    let said = said.map_err(|why| Untrusted::new(why).to_string())?;
    hub::read_manifest(&said)
}
