//! When a model's files are looked at, and what their faults mean.
//!
//! Nothing is looked at before the daemon serves. Files are looked at when it begins to, when a worker could
//! not load them, when somebody asks for a model that cannot be used, when an operator starts one, and on
//! SIGHUP. What a look finds good and a worker cannot load is broken until the files change, or until an
//! operator says that it is to be tried again.

use std::collections::{BTreeMap, BTreeSet};

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::{Generation, ModelKey};
use ipc_protocol::messages::client::Target;
use ipc_protocol::messages::worker::ModelSource;
use ipc_protocol::untrusted::Untrusted;
use pool::{Event, Files, ModelSpec};

use super::Driver;
use super::worker::WorkerHandle;
use crate::catalogue::library::FoundModel;
use crate::catalogue::served::Served;
use crate::telemetry;

/// A task on a model's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FilesTask {
    /// An inspection, whether a request waits for it or not.
    Look,
    /// An inspection, and a fetch if files are missing; it ends when no request waits for it.
    Bring,
}

/// Loads in a row that may fail while the files keep changing.
const CHANGES_MAX: u32 = 5;

/// Faults of files that only loading shows, and the digests that were tried.
#[derive(Debug, Default)]
pub(super) struct LoadFaults {
    of: BTreeMap<ModelKey, LoadFault>,
    /// Stamps of files whose digest was begun; one that failed is not tried again.
    digested: BTreeSet<String>,
    /// The model whose digest is being taken.
    digest_of: Option<ModelKey>,
    /// Its settings have changed since that began.
    digest_is_void: bool,
}

/// A load that failed.
#[derive(Debug)]
struct LoadFault {
    /// The files that could not be loaded.
    stamp: String,
    why: String,
    in_a_row: u32,
}

impl LoadFaults {
    /// Forgets a model's faults, so that it is tried again.
    fn forgive(&mut self, model: &ModelKey) {
        self.of.remove(model);
    }

    /// The digest that was being taken is taken, or cannot be.
    pub(super) fn digest_ended(&mut self) {
        self.digest_of = None;
    }

    /// The settings of a model have changed: its faults, and a digest that is being taken, are of the earlier ones.
    fn forget(&mut self, model: &ModelKey) {
        self.forgive(model);
        if self.digest_of.as_ref() == Some(model) {
            self.digest_is_void = true;
            self.digested.clear();
        }
    }
}

impl Driver {
    /// Inspects the files of every model that was not inspected yet.
    pub(super) fn look_at_unread(&mut self) {
        self.look_at(|spec| spec.files == Files::Unread);
    }

    /// Looks again at the files of every model.
    pub(super) fn look_again(&mut self) {
        let begun = self.look_at(|_| true);
        telemetry::files::looking_again(begun);
    }

    /// Looks at the files of the models that have some and are `wanted`; returns how many these are.
    fn look_at(&mut self, wanted: impl Fn(&ModelSpec) -> bool) -> usize {
        let models: Vec<ModelKey> = self
            .registry
            .iter()
            .filter(|spec| wanted(spec) && self.has_files(&spec.key))
            .map(|spec| spec.key.clone())
            .collect();
        for model in &models {
            self.look_at_one(model);
        }
        models.len()
    }

    /// Looks at a model's files, unless that is being done. What cannot be begun has ended.
    fn look_at_one(&mut self, model: &ModelKey) {
        if self.fetches.is_under_way(model) || self.begin(model.clone(), FilesTask::Look).is_some()
        {
            return;
        }
        let why = "no thread is left to look at its files".to_owned();
        let failure = Failure::new(FailureKind::ModelUnusable, why);
        // The refusal has no request that waits for it.
        let _ = self.not_looked(model, failure);
    }

    fn has_files(&self, model: &ModelKey) -> bool {
        let served = self.catalogue.get(model);
        served.is_some_and(|served| matches!(served.source, ModelSource::Folder { .. }))
    }

    /// A worker ended in a way that only its files explain: they are looked at before the next one starts.
    pub(super) fn suspect_files(&mut self, handle: WorkerHandle) {
        let model = &handle.model;
        let stamp = handle.served.folder_stamp();
        let current = Files::Here {
            stamp: stamp.to_owned(),
        };
        let known = self.registry.find(model.as_str());
        // Somebody may have looked since; a model without files has none to suspect.
        if stamp.is_empty() || known.is_none_or(|spec| spec.files != current) {
            return;
        }
        let why = handle
            .load_error
            .unwrap_or_else(|| match handle.stderr.newest(1).pop() {
                Some(line) => format!(
                    "a worker ended while it read them: {}",
                    Untrusted::new(line)
                ),
                None => "a worker ended while it read them".into(),
            });
        telemetry::files::not_loaded(model, &why);
        let earlier = self.fetches.faults.of.get(model);
        let in_a_row = earlier.map_or(0, |fault| fault.in_a_row) + 1;
        let fault = LoadFault {
            stamp: stamp.to_owned(),
            why,
            in_a_row,
        };
        self.fetches.faults.of.insert(model.clone(), fault);
        self.unread(model);
        self.look_at_one(model);
    }

    /// Marks a model as not inspected; its requests wait for the inspection.
    fn unread(&mut self, model: &ModelKey) {
        let known = self.registry.find(model.as_str()).cloned();
        let (Some(spec), Some(served)) = (known, self.catalogue.get(model).cloned()) else {
            return;
        };
        let spec = ModelSpec {
            files: Files::Unread,
            ..spec
        };
        let entered = self.enter((spec, served));
        entered.expect("only the files of a spec that was sound have changed");
    }

    /// Clears the recorded faults of a model's files, because a worker has loaded them.
    pub(super) fn files_were_loaded(&mut self, worker: Generation) {
        if let Some(handle) = self.workers.get(&worker) {
            self.fetches.faults.forgive(&handle.model);
        }
    }

    /// Returns the result of an inspection, less what loading has shown.
    pub(super) fn judged(&mut self, (spec, served): (ModelSpec, Served)) -> (ModelSpec, Served) {
        let Files::Here { stamp } = &spec.files else {
            return (spec, served);
        };
        let Some(fault) = self.fetches.faults.of.get(&spec.key) else {
            return (spec, served);
        };
        let why = match fault {
            fault if fault.stamp == *stamp => fault.why.clone(),
            fault if fault.in_a_row >= CHANGES_MAX => {
                let why = format!(
                    "its files keep changing, and {} loads failed meanwhile: {}",
                    fault.in_a_row, fault.why
                );
                // Whoever asks next may find them at rest.
                self.fetches.faults.forgive(&spec.key);
                why
            }
            _ => return (spec, served),
        };
        let spec = ModelSpec {
            files: Files::Broken(why),
            ..spec
        };
        (spec, served)
    }

    /// A look or a fetch could not be done. Files that were to be looked at cannot be used.
    pub(super) fn not_looked(&mut self, model: &ModelKey, failure: Failure) -> Result<(), Failure> {
        let known = self.registry.find(model.as_str()).cloned();
        let unread = known.filter(|spec| spec.files == Files::Unread);
        let (Some(spec), Some(served)) = (unread, self.catalogue.get(model).cloned()) else {
            return Err(failure);
        };
        let why = failure.message.clone();
        let files = match failure.kind {
            FailureKind::ModelMissing => Files::Missing(why),
            _ => Files::Broken(why),
        };
        self.enter((ModelSpec { files, ..spec }, served))
            .and(Err(failure))
    }

    /// Forgets looks and fetches of a model whose settings have changed. Returns whether requests wait for its files.
    pub(super) fn forget_looks(&mut self, model: &ModelKey) -> bool {
        self.fetches.faults.forget(model);
        self.fetches.forget(model)
    }

    /// Looks at the files of a model whose settings have changed for the requests that waited before.
    pub(super) fn await_again(&mut self, model: ModelKey) {
        let known = self.registry.find(model.as_str());
        match known.map(|spec| spec.files.are_here()) {
            Some(true) => self.happen(Event::FilesArrived { model }),
            Some(false) => self.fetch(model),
            None => {}
        }
    }

    /// Looks again at what an operator wants started and what cannot be used.
    pub(super) fn try_again(&mut self, target: &Target) {
        let meant = |key: &ModelKey| match target {
            Target::All => true,
            Target::Model(name) => self
                .registry
                .find(name.as_str())
                .is_some_and(|m| m.key == *key),
            Target::Worker(name) => *key == name.model,
        };
        let broken: Vec<ModelKey> = self
            .registry
            .iter()
            .filter(|spec| matches!(spec.files, Files::Broken(_)) && meant(&spec.key))
            .map(|spec| spec.key.clone())
            .collect();
        for model in broken {
            self.fetches.faults.forgive(&model);
            self.unread(&model);
            self.look_at_one(&model);
        }
    }

    /// Begins to take the digest of one model that has none; the next one follows when it is taken.
    pub(super) fn take_next_digest(&mut self) {
        let faults = &mut self.fetches.faults;
        if faults.digest_of.is_some() {
            return;
        }
        let lacks = |spec: &&ModelSpec| {
            let served = self.catalogue.get(&spec.key);
            let undigested = served.filter(|served| served.digest.is_empty());
            spec.files.are_here()
                && undigested.is_some_and(|served| !faults.digested.contains(&served.stamp))
        };
        let Some(model) = self
            .registry
            .iter()
            .find(lacks)
            .map(|spec| spec.key.clone())
        else {
            return;
        };
        faults.digest_of = Some(model.clone());
        faults.digested.insert(self.catalogue[&model].stamp.clone());
        self.digest(model);
    }

    /// All bytes of a model were read: its digest is known, if the files are still those that are served.
    pub(super) fn digested(&mut self, model: ModelKey, found: Result<FoundModel, Failure>) {
        self.fetches.faults.digest_ended();
        if std::mem::take(&mut self.fetches.faults.digest_is_void) {
            return self.take_next_digest();
        }
        match found {
            Ok(found) => {
                let known = self.registry.find(model.as_str());
                let same = known.is_some_and(|spec| spec.files == found.0.files);
                if same && let Err(failure) = self.enter(*found) {
                    telemetry::files::not_digested(&model, &failure);
                }
                if !same {
                    self.look_at_one(&model);
                }
            }
            Err(failure) => telemetry::files::not_digested(&model, &failure),
        }
        self.take_next_digest();
    }

    /// Digest of the files that a worker has loaded; it may have become known since it did.
    pub(super) fn digest_of(&self, worker: Generation) -> String {
        let Some(handle) = self.workers.get(&worker) else {
            return String::new();
        };
        let now = self.catalogue.get(&handle.model);
        let same = now.filter(|served| served.stamp == handle.served.stamp);
        same.unwrap_or(&handle.served).digest.clone()
    }
}
