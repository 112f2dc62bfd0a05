//! The files of models: inspected again after changes, and fetched by the fetch program.

use std::fmt::Display;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::ModelKey;
use ipc_protocol::messages::client::Fetching;
use ipc_protocol::untrusted::Untrusted;
use pool::{Files, ModelSpec, Registry};
use store::event::{FetchEvent, PlannedFile};
use store::release::Release;

use super::looks::Looks;
use super::offer::{self, ReadDepth};
use super::placement::CudaDevices;
use super::served::Served;
use crate::config::{Config, paths};
use crate::process::fetch;
use crate::telemetry;

/// Inspects model files while the daemon runs, and fetches them.
#[derive(Debug, Clone)]
pub struct Library {
    /// The settings that the registry was built from.
    pub config: Arc<Config>,
    /// The worker program, which inspects weights.
    pub worker_program: PathBuf,
    /// The CUDA devices.
    pub cuda: CudaDevices,
    /// Cached results of earlier inspections.
    pub looks: Arc<Looks>,
}

/// A model after inspecting its files.
pub type FoundModel = Box<(ModelSpec, Served)>;

impl Library {
    /// Creates the library of the models in `config`.
    pub fn new(config: Config, worker_program: PathBuf, cuda: CudaDevices) -> Self {
        Self {
            config: Arc::new(config),
            worker_program,
            cuda,
            looks: Arc::new(Looks::in_folder(paths::default_cache_dir().as_deref())),
        }
    }

    /// Inspects the model's files on this machine; unusable files are a result, not an error.
    pub fn look(&self, key: &ModelKey, depth: ReadDepth) -> Result<FoundModel, Failure> {
        let Self {
            config,
            worker_program,
            cuda,
            looks,
        } = self;
        offer::model((config, *cuda), worker_program, looks, key.as_str(), depth)
            .map(Box::new)
            .map_err(|why| Failure::new(FailureKind::ModelUnusable, why))
    }

    /// Inspects all models; returns one line for each that is unusable. Blocks until all are inspected.
    pub fn unusable(&self, registry: &Registry) -> Vec<String> {
        let unread = |spec: &&ModelSpec| spec.files == Files::Unread;
        let why = |spec: &ModelSpec| match self.look(&spec.key, ReadDepth::Quick) {
            Ok(found) => match found.0.files {
                Files::Broken(why) => Some(why),
                Files::Here { .. } | Files::Unread | Files::Missing(_) => None,
            },
            Err(failure) => Some(failure.message),
        };
        let models = registry.iter().filter(unread);
        models
            .filter_map(|spec| Some(format!("{} cannot be loaded: {}", spec.key, why(spec)?)))
            .collect()
    }

    /// Inspects a model's files; if they are missing, fetches and inspects them. Calls `tell` with the progress;
    /// `Break` from it stops the fetch.
    pub fn bring(
        &self,
        key: &ModelKey,
        mut tell: impl FnMut(Fetching) -> ControlFlow<()>,
    ) -> Result<FoundModel, Failure> {
        // An operator may have fetched the files meanwhile.
        let found = self.look(key, ReadDepth::Quick)?;
        let Files::Missing(why) = &found.0.files else {
            return Ok(found);
        };
        let not_here = || {
            let why = format!("{key} cannot be loaded: {why}");
            Failure::new(FailureKind::ModelMissing, why)
        };
        let could_not = |why: &dyn Display| {
            let why = format!("{key} could not be fetched: {why}");
            Failure::new(FailureKind::ModelMissing, why)
        };
        let Some(release) = Release::find(key.as_str()) else {
            return Err(not_here());
        };
        if self.config.hub.offline {
            let why = format!(
                "{}; hub.offline is set, so nothing is fetched",
                not_here().message
            );
            return Err(Failure::new(FailureKind::ModelMissing, why));
        }
        telemetry::files::fetching(key, release.licence.name);
        let begun = Fetching {
            model: key.clone(),
            here_bytes: 0,
            all_bytes: 0,
        };
        if tell(begun).is_break() {
            return Err(not_here());
        }
        let (mut count, mut failed) = (FetchCount::default(), None);
        let order = offer::fetch_order(&self.config, key.as_str(), None, None)
            .map_err(|error| could_not(&error))?;
        let hub = offer::hub_settings(&self.config);
        let ran = fetch::run(&order, &hub, |event| {
            if let FetchEvent::Failed { message, .. } = &event {
                failed = Some(Untrusted::new(message).to_string());
            }
            match count.hear(&event) {
                Some((here_bytes, all_bytes)) => tell(Fetching {
                    model: key.clone(),
                    here_bytes,
                    all_bytes,
                }),
                None => ControlFlow::Continue(()),
            }
        });
        match ran.err().or(failed) {
            None => self.look(key, ReadDepth::Quick),
            Some(why) => Err(could_not(&why)),
        }
    }
}

/// Counts the downloaded bytes from the events of a fetch.
#[derive(Debug, Default)]
struct FetchCount {
    /// Size and downloaded bytes of each planned file.
    files: Vec<(u64, u64)>,
    /// The last reported progress, in thousandths.
    told: Option<u64>,
}

impl FetchCount {
    /// Takes in an event. Returns the downloaded bytes and the total if the progress changed by a thousandth.
    fn hear(&mut self, event: &FetchEvent) -> Option<(u64, u64)> {
        match event {
            FetchEvent::Planned { files, .. } => {
                self.files = files
                    .iter()
                    .map(|PlannedFile { bytes, .. }| (*bytes, 0))
                    .collect();
            }
            FetchEvent::Progress { file, bytes } => self.files.get_mut(*file)?.1 = *bytes,
            FetchEvent::Checked { file } => {
                let file = self.files.get_mut(*file)?;
                file.1 = file.0;
            }
            FetchEvent::Waiting
            | FetchEvent::Retried { .. }
            | FetchEvent::Done { .. }
            | FetchEvent::Failed { .. } => {
                return None;
            }
        }
        let all: u64 = self.files.iter().map(|(size, _)| size).sum();
        let here: u64 = self.files.iter().map(|(size, here)| here.min(size)).sum();
        let permille = here.saturating_mul(1000).checked_div(all);
        let news = permille != self.told;
        self.told = permille;
        news.then_some((here, all))
    }
}
