//! The pool as somebody sees it who reads every event and every action, in their order: which worker
//! does what, which job is where, and what each device has promised. The checks beside it ask it.
//!
//! - `hear` is what events change, by `lives` of workers and `orders` of people; `act` what actions do
//! - `sums` is the arithmetic of memory, from the words of `design.md`, section 8
//! - `pace` is how fast a model was seen to be

mod act;
mod hear;
mod lives;
mod orders;
mod pace;
mod sums;

pub(crate) use act::is_its_fault;
pub(crate) use orders::serves_on;
pub(crate) use sums::Parts;

use std::collections::{BTreeMap, BTreeSet};

use ipc_protocol::ids::{Device, DeviceWish, Generation, JobId, ModelKey, WorkerName};
use ipc_protocol::request::{ImageRequest, Priority};
use ipc_protocol::units::{Mebibytes, PictureSize};
use pool::{DeviceLimit, Footprint, ModelSpec, Moment, Registry, Settings, StopReason};

pub(crate) use pace::Pace;

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
    leaving: BTreeSet<Generation>,
}

/// What the event says that somebody has to be told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum News {
    Nothing,
    /// A load went on.
    Loaded(Generation, u16),
    /// A job went on.
    Stepped(JobId, u32),
    /// A step that its job does not have.
    Impossible(Generation),
    /// A worker died that nobody had told to leave, with its job and whether it was loading.
    Died(Gone),
    Left(Gone),
}

/// A worker that is gone.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Gone {
    pub(crate) worker: Generation,
    pub(crate) hand: Hand,
    /// Its model had run out of memory while loading just before.
    pub(crate) raised: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Starting,
    Loading,
    Idle,
    Busy(JobId),
    Unwinding(JobId),
    /// With the job that goes elsewhere, where it still wants an answer.
    Leaving(Option<JobId>),
}

/// A worker that is not reaped.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hand {
    pub(crate) name: WorkerName,
    pub(crate) device: Device,
    /// For its residency and a usual picture.
    pub(crate) promised: BTreeMap<Device, Mebibytes>,
    /// For the picture it draws.
    pub(crate) extra: Mebibytes,
    pub(crate) life: Life,
    pub(crate) pid: Option<u32>,
    pub(crate) started: Moment,
    /// In its present state.
    pub(crate) since: Moment,
    pub(crate) heard: Moment,
    pub(crate) progressed: Moment,
    pub(crate) permille: u16,
    pub(crate) footprint: Option<Footprint>,
    pub(crate) outdated: bool,
    pub(crate) was_loading: bool,
    pub(crate) jobs_done: u64,
    pub(crate) told: Option<StopReason>,
    pub(crate) stops: Option<Stops>,
}

/// How far it is told to leave: how often, when the last time, and since when with SIGKILL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stops {
    /// Since when it was in the state that it is to leave from.
    pub(crate) from: Moment,
    pub(crate) steps: u32,
    pub(crate) last: Moment,
    pub(crate) killed: Option<Moment>,
}

/// An accepted job without an answer.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) model: ModelKey,
    pub(crate) user: String,
    pub(crate) priority: Priority,
    /// Where it may run; unknown where the pool chose a device because others are too small.
    pub(crate) wish: Option<DeviceWish>,
    pub(crate) size: PictureSize,
    pub(crate) steps: u32,
    pub(crate) bytes: usize,
    pub(crate) accepted: Moment,
    pub(crate) since: Moment,
    pub(crate) on: Option<Generation>,
    pub(crate) attempts: u32,
    pub(crate) step: u32,
    pub(crate) from_step: u32,
    pub(crate) began: Moment,
    /// What it takes beyond what its size says, since it ran out of memory.
    pub(crate) more: Mebibytes,
    /// It lost a worker: it goes first.
    pub(crate) again: bool,
    /// Who died with it, and of what.
    pub(crate) losses: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) spec: ModelSpec,
    pub(crate) offered: bool,
    pub(crate) stopped: bool,
    pub(crate) held: BTreeSet<u32>,
    pub(crate) pinned: bool,
    pub(crate) kept: u32,
    pub(crate) deaths: u64,
    /// Dead workers that nobody took the place of.
    pub(crate) owed: u32,
    pub(crate) worst: Footprint,
    /// In percent, after it ran out of memory while it loaded.
    pub(crate) raised: u64,
    pub(crate) pace: Pace,
    waiting: BTreeSet<JobId>,
    workers: BTreeSet<Generation>,
}

/// A device's own account.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place {
    pub(crate) limit: Mebibytes,
    pub(crate) confirms: bool,
    pub(crate) measured: Option<Mebibytes>,
    pub(crate) foreign: Option<Mebibytes>,
    pub(crate) total: Option<Mebibytes>,
    pub(crate) lost: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Settling {
    pub(crate) device: Device,
    pub(crate) part: Mebibytes,
    pub(crate) until: Moment,
    pub(crate) given_up: bool,
}

impl Hand {
    pub(crate) fn is_live(&self) -> bool {
        !matches!(self.life, Life::Leaving(_))
    }

    pub(crate) fn is_coming(&self) -> bool {
        matches!(self.life, Life::Starting | Life::Loading)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.life == Life::Idle
    }

    pub(crate) fn is_resident(&self) -> bool {
        self.is_live() && !self.is_coming()
    }

    /// The job it has that wants an answer from it.
    pub(crate) fn job(&self) -> Option<JobId> {
        match self.life {
            Life::Busy(job) | Life::Leaving(Some(job)) => Some(job),
            Life::Starting
            | Life::Loading
            | Life::Idle
            | Life::Unwinding(_)
            | Life::Leaving(None) => None,
        }
    }
}

impl Task {
    pub(crate) fn serves(&self, device: Device) -> Option<bool> {
        self.wish.map(|wish| match wish {
            DeviceWish::Auto => true,
            DeviceWish::On(only) => only == device,
        })
    }
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
        if !model.offered || model.stopped || model.spec.missing.is_some() {
            return 0;
        }
        let least = model.spec.min_workers.unwrap_or(self.settings.min_workers);
        let pin = u32::from(model.pinned);
        (least.max(model.kept).max(pin) as usize).min(self.most(model))
    }
}

impl Model {
    pub(crate) fn new(spec: &ModelSpec) -> Self {
        Self {
            spec: spec.clone(),
            offered: true,
            stopped: false,
            held: BTreeSet::new(),
            pinned: spec.pinned,
            kept: 0,
            deaths: 0,
            owed: 0,
            worst: Footprint::default(),
            raised: 0,
            pace: Pace::default(),
            waiting: BTreeSet::new(),
            workers: BTreeSet::new(),
        }
    }
}
