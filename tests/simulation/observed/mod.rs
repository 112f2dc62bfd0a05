//! The simulator's own books: the pool as known from its events and actions alone.
//!
//! They record every request, worker, job, model and device. Nothing here asks the pool, so that a mistake in its books shows. The
//! oracle and all checks read these records.
//!
//! - `records` and `requests` are the records; `events`, `workers`, `commands` and `actions` change them
//! - `ends` is what the end of a worker means
//! - `memory` is the arithmetic of reservations, `pace` how fast each model was measured to be

mod actions;
mod commands;
mod ends;
mod events;
mod memory;
mod pace;
mod records;
mod requests;
mod workers;

pub(crate) use commands::serves_on;
pub(crate) use ends::WorkerEnd;
pub(crate) use memory::MemoryParts;
pub(crate) use pace::DurationRange;
pub(crate) use records::{
    Consequence, DeviceRecord, EndedProcess, JobRecord, ModelRecord, ProcessRecord, ProcessState,
    SettlingMemory, StopSteps, WorkerLoss,
};
pub(crate) use requests::{AskedRequest, AwaitingRequest};

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipc_protocol::ids::{Device, Generation, JobId, ModelKey};
use pool::{DeviceLimit, Moment, Registry, Settings};

pub(crate) struct ObservedPool {
    pub(crate) settings: Settings,
    pub(crate) models: BTreeMap<ModelKey, ModelRecord>,
    /// Every worker whose process is not reaped.
    pub(crate) workers: BTreeMap<Generation, ProcessRecord>,
    /// Every accepted job without an answer.
    pub(crate) jobs: BTreeMap<JobId, JobRecord>,
    /// Every request that waits for files, by the first of the ids that its jobs will have.
    pub(crate) requests: BTreeMap<JobId, AwaitingRequest>,
    /// Models whose files the pool asked for, until that ends or the pool stops it.
    pub(crate) fetching: BTreeSet<ModelKey>,
    pub(crate) devices: BTreeMap<Device, DeviceRecord>,
    /// By the dead worker that held it.
    pub(crate) settling: BTreeMap<Generation, SettlingMemory>,
    pub(crate) draining: bool,
    /// When the pool cancels the jobs that are left.
    pub(crate) ends: Option<Moment>,
    pub(crate) exited: bool,
    /// Of the present event.
    pub(crate) consequence: Consequence,
    pub(crate) counts: ObservedCounts,
    pub(crate) last_job: JobId,
    pub(crate) last_worker: Generation,
    /// The accepted jobs of each user, with the moment of each request.
    pub(crate) usage: BTreeMap<String, Vec<(Moment, u32)>>,
    pub(crate) answers: u64,
    pub(crate) pictures: u64,
    /// Requests that waited for files, and those of them that became jobs.
    pub(crate) awaited: u64,
    pub(crate) entered: u64,
    /// The request of the present event, until it has a reply.
    pub(crate) asked: Option<AskedRequest>,
    /// Models that a worker of another model was evicted for.
    evicting: BTreeSet<ModelKey>,
    restarts: Vec<Restart>,
    /// Models whose restart ended with this event: their slots may be as before or as after it.
    pub(crate) back: BTreeSet<ModelKey>,
}

/// The counters that the pool should report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ObservedCounts {
    pub(crate) spawns: u64,
    pub(crate) exits: u64,
    pub(crate) evictions: u64,
    /// Starts that a worker of another model was evicted for.
    pub(crate) swaps: u64,
}

/// Workers that are started again once all of them are reaped.
#[derive(Debug)]
struct Restart {
    models: Vec<ModelKey>,
    slot: Option<u32>,
    /// The workers that each model keeps afterwards, at least.
    least: usize,
    leaving: BTreeSet<Generation>,
}

impl ObservedPool {
    pub(crate) fn new(settings: &Settings, registry: &Registry, limits: &[DeviceLimit]) -> Self {
        let device = |limit: &DeviceLimit| DeviceRecord {
            limit: limit.limit,
            confirms: limit.confirms,
            ..DeviceRecord::default()
        };
        Self {
            settings: settings.clone(),
            models: registry
                .iter()
                .map(|spec| (spec.key.clone(), ModelRecord::new(spec)))
                .collect(),
            workers: BTreeMap::new(),
            jobs: BTreeMap::new(),
            usage: BTreeMap::new(),
            requests: BTreeMap::new(),
            fetching: BTreeSet::new(),
            devices: limits.iter().map(|l| (l.device, device(l))).collect(),
            settling: BTreeMap::new(),
            draining: false,
            ends: None,
            exited: false,
            consequence: Consequence::None,
            counts: ObservedCounts::default(),
            last_job: JobId(0),
            last_worker: Generation(0),
            answers: 0,
            pictures: 0,
            awaited: 0,
            entered: 0,
            asked: None,
            evicting: BTreeSet::new(),
            restarts: Vec::new(),
            back: BTreeSet::new(),
        }
    }

    /// The workers of a model that are not reaped, oldest first.
    pub(crate) fn workers_of(
        &self,
        model: &ModelKey,
    ) -> impl Iterator<Item = (Generation, &ProcessRecord)> + Clone {
        let ids = self
            .models
            .get(model)
            .into_iter()
            .flat_map(|model| &model.workers);
        ids.filter_map(|id| Some((*id, self.workers.get(id)?)))
    }

    pub(crate) fn live(
        &self,
        model: &ModelKey,
    ) -> impl Iterator<Item = (Generation, &ProcessRecord)> {
        self.workers_of(model)
            .filter(|(_, process)| process.is_live())
    }

    /// The jobs that wait for a model, oldest first.
    pub(crate) fn waiting(&self, model: &ModelKey) -> impl Iterator<Item = (JobId, &JobRecord)> {
        let ids = self
            .models
            .get(model)
            .into_iter()
            .flat_map(|model| &model.waiting);
        ids.filter_map(|id| Some((*id, self.jobs.get(id)?)))
    }

    /// Whether a job waits for another model than this.
    pub(crate) fn others_wait(&self, model: &ModelKey) -> bool {
        let others = self.models.iter().filter(|(key, _)| *key != model);
        others
            .into_iter()
            .any(|(_, other)| !other.waiting.is_empty())
    }

    /// The oldest waiting job of all models.
    pub(crate) fn oldest(&self) -> Option<JobId> {
        let first = self
            .models
            .values()
            .filter_map(|model| model.waiting.first());
        first.min().copied()
    }

    /// The offered model with this key or alias.
    pub(crate) fn called(&self, name: &str) -> Option<&ModelRecord> {
        let called = |model: &&ModelRecord| {
            let spec = &model.spec;
            model.offered && (spec.key.as_str() == name || spec.aliases.iter().any(|a| a == name))
        };
        self.models.values().find(called)
    }

    /// Most workers of a model.
    pub(crate) fn most(&self, model: &ModelRecord) -> usize {
        let most = model.spec.max_workers;
        most.unwrap_or(self.settings.max_workers_per_model).max(1) as usize
    }

    /// The number of workers that a model keeps without any job.
    pub(crate) fn floor(&self, model: &ModelRecord) -> usize {
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

/// The time from `earlier` to `later`, zero if they are the other way round.
pub(crate) fn span(later: Moment, earlier: Moment) -> Duration {
    Duration::from_micros(later.0.saturating_sub(earlier.0))
}
