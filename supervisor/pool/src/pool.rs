//! The pool itself.

use ipc_protocol::ids::{Device, JobId, ModelKey};
use ipc_protocol::status::{Counters, MemoryStatus, ModelStatus, QueuedStatus, WorkerStatus};
use ipc_protocol::units::{Mebibytes, PictureSize};

use crate::action::Action;
use crate::event::Event;
use crate::moment::Moment;
use crate::registry::Registry;
use crate::settings::Settings;

/// A device and what may be promised on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceLimit {
    /// Which.
    pub device: Device,
    /// Most that may be promised.
    pub limit: Mebibytes,
    /// A dead worker's memory counts as settling until `MemoryReturned` says otherwise.
    pub confirms: bool,
}

/// Everything a status report needs but the daemon's own pid and version.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Nothing new is taken.
    pub draining: bool,
    /// One per device.
    pub memory: Vec<MemoryStatus>,
    /// Every worker that is not reaped, by name.
    pub workers: Vec<WorkerStatus>,
    /// Every model.
    pub models: Vec<ModelStatus>,
    /// Every job without an answer.
    pub queue: Vec<QueuedStatus>,
    /// Since the start.
    pub counters: Counters,
}

/// The arithmetic of `imagepool plan`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One sentence per device and step of the arithmetic.
    pub lines: Vec<String>,
    /// A job like this could ever run.
    pub possible: bool,
}

/// All workers and the decisions about them.
#[derive(Debug)]
pub struct Pool {}

impl Pool {
    /// A pool without workers.
    pub fn new(_settings: Settings, _registry: Registry, _devices: Vec<DeviceLimit>) -> Self {
        Self {}
    }

    /// Takes one event at time `now` and appends what should be done about it to `actions`.
    pub fn handle(&mut self, _now: Moment, _event: Event, _actions: &mut Vec<Action>) {}

    /// When the pool next wants `Event::DeadlineReached`.
    pub fn next_deadline(&self) -> Option<Moment> {
        None
    }

    /// Everything at one moment, so that its sums agree with each other.
    pub fn snapshot(&self, _now: Moment) -> Snapshot {
        Snapshot {
            draining: false,
            memory: Vec::new(),
            workers: Vec::new(),
            models: Vec::new(),
            queue: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// Why a job waits, in a sentence with numbers; `None` for a job that is answered or unknown.
    pub fn explain(&self, _now: Moment, _job: JobId) -> Option<String> {
        None
    }

    /// What a job of `model` at `size` would take and whether it could run; `None` for no such model.
    pub fn plan(&self, _model: &str, _size: Option<PictureSize>) -> Option<Plan> {
        None
    }

    /// The model has a worker that lives: starting, idle or busy, not stopping.
    pub fn has_workers(&self, _key: &ModelKey) -> bool {
        false
    }

    /// Memory promised to all workers on all devices, in mebibytes.
    pub fn total_memory_mb(&self) -> u64 {
        0
    }
}
