//! The pool as its events and actions show it: workers, jobs, and memory per device.
//!
//! The checks beside it ask it.
//!
//! - `cast` is who is on it
//! - `hear` is what events change, by `lives` of workers and `orders` of people; `act` what actions do
//! - `sums` is the arithmetic of memory, from the words of `design.md`, section 8
//! - `pace` is how fast a model was seen to be

mod act;
mod cast;
mod hear;
mod lives;
mod orders;
mod pace;
mod sums;

pub(crate) use act::is_its_fault;
pub(crate) use cast::{Gone, Hand, Life, Model, News, Place, Settling, Stops, Task};
pub(crate) use orders::serves_on;
pub(crate) use pace::Range;
pub(crate) use sums::Parts;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipc_protocol::ids::{Device, Generation, JobId, ModelKey};
use ipc_protocol::request::ImageRequest;
use pool::{DeviceLimit, Moment, Registry, Settings};

pub(crate) struct Scene {
    pub(crate) settings: Settings,
    pub(crate) models: BTreeMap<ModelKey, Model>,
    pub(crate) workers: BTreeMap<Generation, Hand>,
    pub(crate) jobs: BTreeMap<JobId, Task>,
    pub(crate) devices: BTreeMap<Device, Place>,
    /// What dead workers held and the device's driver has not given back.
    pub(crate) settling: BTreeMap<Generation, Settling>,
    pub(crate) draining: bool,
    /// When the pool cancels what is left.
    pub(crate) ends: Option<Moment>,
    pub(crate) gone: bool,
    pub(crate) news: News,
    /// Started, reaped, evicted, and evicted for one that started.
    pub(crate) counts: [u64; 4],
    /// Models that somebody was evicted for.
    evicting: BTreeSet<ModelKey>,
    asked: Option<(ImageRequest, String)>,
    restarts: Vec<Restart>,
    /// Restarted with this event: its slots may be as they were or as they are.
    pub(crate) back: BTreeSet<ModelKey>,
}

/// Workers that come back once they are gone.
#[derive(Debug)]
struct Restart {
    models: Vec<ModelKey>,
    slot: Option<u32>,
    /// Workers each is to have then.
    least: usize,
    leaving: BTreeSet<Generation>,
}

impl Scene {
    pub(crate) fn new(settings: &Settings, registry: &Registry, limits: &[DeviceLimit]) -> Self {
        let place = |limit: &DeviceLimit| Place {
            limit: limit.limit,
            confirms: limit.confirms,
            ..Place::default()
        };
        Self {
            settings: settings.clone(),
            models: registry
                .iter()
                .map(|spec| (spec.key.clone(), Model::new(spec)))
                .collect(),
            workers: BTreeMap::new(),
            jobs: BTreeMap::new(),
            devices: limits.iter().map(|l| (l.device, place(l))).collect(),
            settling: BTreeMap::new(),
            draining: false,
            ends: None,
            gone: false,
            news: News::Nothing,
            counts: [0; 4],
            evicting: BTreeSet::new(),
            asked: None,
            restarts: Vec::new(),
            back: BTreeSet::new(),
        }
    }

    /// The workers of a model that are not reaped, oldest first.
    pub(crate) fn workers_of(
        &self,
        model: &ModelKey,
    ) -> impl Iterator<Item = (Generation, &Hand)> + Clone {
        let ids = self
            .models
            .get(model)
            .into_iter()
            .flat_map(|model| &model.workers);
        ids.filter_map(|id| Some((*id, self.workers.get(id)?)))
    }

    pub(crate) fn live(&self, model: &ModelKey) -> impl Iterator<Item = (Generation, &Hand)> {
        self.workers_of(model).filter(|(_, hand)| hand.is_live())
    }

    /// The jobs that wait for a model, oldest first.
    pub(crate) fn waiting(&self, model: &ModelKey) -> impl Iterator<Item = (JobId, &Task)> {
        let ids = self
            .models
            .get(model)
            .into_iter()
            .flat_map(|model| &model.waiting);
        ids.filter_map(|id| Some((*id, self.jobs.get(id)?)))
    }

    /// Somebody waits for another model than this.
    pub(crate) fn others_wait(&self, model: &ModelKey) -> bool {
        let others = self.models.iter().filter(|(key, _)| *key != model);
        others
            .into_iter()
            .any(|(_, other)| !other.waiting.is_empty())
    }

    /// The oldest job that waits for anything.
    pub(crate) fn oldest(&self) -> Option<JobId> {
        let first = self
            .models
            .values()
            .filter_map(|model| model.waiting.first());
        first.min().copied()
    }

    /// The model that somebody means by `name`.
    pub(crate) fn called(&self, name: &str) -> Option<&Model> {
        let called = |model: &&Model| {
            let spec = &model.spec;
            model.offered && (spec.key.as_str() == name || spec.aliases.iter().any(|a| a == name))
        };
        self.models.values().find(called)
    }

    pub(crate) fn most(&self, model: &Model) -> usize {
        let most = model.spec.max_workers;
        most.unwrap_or(self.settings.max_workers_per_model).max(1) as usize
    }

    /// Workers it keeps whatever the load is.
    pub(crate) fn floor(&self, model: &Model) -> usize {
        if !model.offered || model.stopped || !model.spec.files.are_here() {
            return 0;
        }
        let least = model.spec.min_workers.unwrap_or(self.settings.min_workers);
        let most = least.max(model.kept);
        let held = model.held.range(..most).count();
        (most as usize - held)
            .max(model.pinned.into())
            .min(self.most(model))
    }
}

/// From `earlier` to `later`.
pub(crate) fn span(later: Moment, earlier: Moment) -> Duration {
    Duration::from_micros(later.0.saturating_sub(earlier.0))
}
