//! Who is on it: workers, jobs, models and devices, each with what can be known of it from outside.

use std::collections::{BTreeMap, BTreeSet};

use ipc_protocol::ids::{Device, DeviceWish, Generation, JobId, ModelKey, WorkerName};
use ipc_protocol::request::Priority;
use ipc_protocol::units::{Mebibytes, PictureSize};
use pool::{CpuTime, Footprint, ModelSpec, Moment, StopReason};

use super::pace::Pace;

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
    /// Its last sign of work: a step, a part of its load, a count that rose.
    pub(crate) worked: Moment,
    pub(crate) work: u64,
    /// When the kernel was asked for its processor time.
    pub(crate) asked: Option<Moment>,
    /// What it said since the last sign of work.
    pub(crate) samples: Vec<(Moment, Option<CpuTime>)>,
    pub(crate) permille: u16,
    pub(crate) footprint: Option<Footprint>,
    /// It drew a picture larger than usual.
    pub(crate) stretched: bool,
    pub(crate) outdated: bool,
    pub(crate) was_loading: bool,
    pub(crate) jobs_done: u64,
    pub(crate) told: Option<StopReason>,
    /// Why it cannot load, in its own words.
    pub(crate) said: Option<String>,
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
    pub(crate) resume_step: u32,
    pub(crate) began: Moment,
    /// What it takes beyond what its size says, since it ran out of memory.
    pub(crate) more: Mebibytes,
    /// It lost a worker: it goes first.
    pub(crate) again: bool,
    /// Who ended with it, of what, and whether that is evidence against it.
    pub(crate) losses: Vec<(String, String, bool)>,
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
    pub(super) waiting: BTreeSet<JobId>,
    pub(super) workers: BTreeSet<Generation>,
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

impl Hand {
    /// It shows that it works: what was measured before says nothing any more.
    pub(crate) fn shows_work(&mut self, now: Moment) {
        (self.worked, self.asked) = (now, None);
        self.samples.clear();
    }
}

impl Task {
    /// Workers whose end is evidence against it.
    pub(crate) fn accused(&self) -> usize {
        self.losses
            .iter()
            .filter(|(_, _, accused)| *accused)
            .count()
    }

    pub(crate) fn serves(&self, device: Device) -> Option<bool> {
        self.wish.map(|wish| match wish {
            DeviceWish::Auto => true,
            DeviceWish::On(only) => only == device,
        })
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
