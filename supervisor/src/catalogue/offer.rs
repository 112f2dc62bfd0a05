//! The models that the settings offer, as the pool and the driver need them.

use std::path::{Path, PathBuf};
use std::thread;

use ipc_protocol::arithmetic::Arithmetic;
use ipc_protocol::untrusted::Untrusted;
use pool::{ModelSpec, Registry};
use store::Store;
use store::order::{FetchOrder, HubSettings};
use store::trouble::FetchError;

use super::facts::{FolderFacts, Look};
use super::looks::{self, Looks};
use super::placement::CudaDevices;
use super::served::{Catalogue, Served};
use super::{manifest, models};
use crate::config::Config;
use crate::process::spawn;

/// Returns all models of the settings without inspecting any folder: models with files are `Unread`. `cuda` are the
/// CUDA devices.
///
/// # Errors
/// The message; it names the section of the invalid model.
pub fn models(config: &Config, cuda: CudaDevices) -> Result<(Registry, Catalogue), String> {
    with_facts(config, cuda, &|_, _, _| Look::Unread, |facts| {
        models::build(&config.models, facts)
    })
}

/// Returns one model of the settings, after inspecting its files.
///
/// # Errors
/// The message; it names the model's section.
pub fn model(
    (config, cuda): (&Config, CudaDevices),
    worker_program: &Path,
    looks: &Looks,
    key: &str,
    depth: ReadDepth,
) -> Result<(ModelSpec, Served), String> {
    let section = config.models.get(key).cloned().unwrap_or_default();
    let look = |path: &Path, family: Option<&str>, arithmetic| {
        look_at(worker_program, looks, path, family, arithmetic, depth)
    };
    with_facts(config, cuda, &look, |facts| {
        models::one(key, &section, facts)
    })
}

/// How much of a model's files to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadDepth {
    /// The headers, and all bytes for the digest only if that takes a few seconds at most.
    Quick,
    /// All bytes, for the digest.
    Whole,
}

fn with_facts<T>(
    config: &Config,
    cuda: CudaDevices,
    look: models::LookAt<'_>,
    build: impl FnOnce(&models::FactSources<'_>) -> Result<T, String>,
) -> Result<T, String> {
    let store = Store::at(hub_settings(config).folder);
    build(&models::FactSources {
        built_in: manifest::built_in()?,
        published: &manifest::published,
        look,
        fetched: &|key, section| {
            let (variant, revision) = (section.variant.as_deref(), section.revision.as_deref());
            let found = store.wanted(key, variant, revision)?;
            Ok(found.map(|found| (found.folder, found.record.digest())))
        },
        threads: threads_per_worker(config),
        cuda,
    })
}

/// Describes the fetch of a model; an omitted variant or revision comes from its settings.
///
/// # Errors
/// Unknown model or variant.
pub fn fetch_order(
    config: &Config,
    key: &str,
    variant: Option<&str>,
    revision: Option<&str>,
) -> Result<FetchOrder, FetchError> {
    let section = config.models.get(key);
    let variant = variant.or(section.and_then(|section| section.variant.as_deref()));
    let revision = revision.or(section.and_then(|section| section.revision.as_deref()));
    FetchOrder::new(key, variant, revision)
}

/// Settings of the hub, with the folder of the fetched models.
pub fn hub_settings(config: &Config) -> HubSettings {
    HubSettings {
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

/// Threads per worker: the cores divided by the number of workers of a cold start.
fn threads_per_worker(config: &Config) -> u32 {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    (cores as u32 / config.pool.cold_start_workers.max(1)).max(1)
}

/// Resolves a path to an absolute one without links. The last part of a file's path stays as it is, even if it
/// is a link, as in a hub cache: the model's other files are beside the link, not beside its target.
fn absolute(path: &Path) -> std::io::Result<PathBuf> {
    match (path.is_file(), path.parent(), path.file_name()) {
        (true, Some(folder), Some(name)) => {
            let folder = if folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                folder
            };
            Ok(folder.canonicalize()?.join(name))
        }
        _ => path.canonicalize(),
    }
}

/// Inspects a folder of weights: uses the cached result if the files are unchanged, else asks the worker
/// program, whose error names the unusable file.
fn look_at(
    worker: &Path,
    looks: &Looks,
    path: &Path,
    family: Option<&str>,
    arithmetic: Arithmetic,
    depth: ReadDepth,
) -> Look {
    let found = || -> Result<(String, FolderFacts), String> {
        let folder =
            absolute(path).map_err(|error| format!("path = {}: {error}", path.display()))?;
        let name = folder
            .to_str()
            .ok_or_else(|| format!("path = {} is not UTF-8", folder.display()))?
            .to_owned();
        let what = looks::key(worker, &folder, family, arithmetic);
        let whole = depth == ReadDepth::Whole;
        let known = looks.find(&what);
        if let Some(known) = known.filter(|known| !whole || !known.digest.is_empty()) {
            return Ok((name, known));
        }
        let said = spawn::inspect(worker, &folder, family, arithmetic, whole);
        let said = said.map_err(|error| format!("cannot inspect {}: {error}", path.display()))?;
        // The error quotes names of files and tensors.
        let said = said.map_err(|why| Untrusted::new(why).to_string())?;
        let found = manifest::read_manifest(&said)?;
        looks.keep(&what, &said);
        Ok((name, found))
    };
    match found() {
        Ok((folder, found)) => Look::Seen {
            folder,
            found: Box::new(found),
        },
        Err(why) => Look::Broken(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_resolved_except_the_name_of_a_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let real = folder.path().canonicalize().expect("a folder");
        std::fs::create_dir(real.join("blobs")).expect("our own folder");
        std::fs::write(real.join("blobs/0123"), b"").expect("our own folder");
        std::os::unix::fs::symlink("blobs", real.join("snapshot")).expect("our own folder");
        std::os::unix::fs::symlink("0123", real.join("blobs/flux.gguf")).expect("our own folder");
        let file = absolute(&real.join("snapshot/flux.gguf")).expect("a file");
        assert_eq!(file, real.join("blobs/flux.gguf"));
        let found = absolute(&real.join("snapshot")).expect("a folder");
        assert_eq!(found, real.join("blobs"));
        assert!(absolute(&real.join("nothing")).is_err());
    }
}
