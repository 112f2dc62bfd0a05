//! Records of workers, jobs, models and devices, from events and actions.

use std::collections::{BTreeMap, BTreeSet};

use ipc_protocol::failure::FailureKind;
use ipc_protocol::ids::{Device, DeviceConstraint, Generation, JobId, ModelKey, WorkerName};
use ipc_protocol::request::Priority;
use ipc_protocol::units::Mebibytes;
use pool::{CpuTime, Footprint, ModelSpec, Moment, Parameters, StopReason, Ticket};

use super::ends::WorkerEnd;
use super::pace::PaceBounds;

/// A consequence of an event beyond the records that it changes.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "one value exists at a time")]
pub(crate) enum Consequence {
    None,
    /// A load progressed.
    Loaded(Generation, u16),
    /// A job finished a step.
    Stepped(JobId, u32),
    /// A worker reported a step that its job does not have.
    ImpossibleStep(Generation),
    /// A worker finished its job.
    Finished(JobId),
    /// A worker that stays gave its job up, for this kind of reason.
    GaveUp(JobId, FailureKind),
    /// A worker holds this much more on its device than can be reserved there.
    Overflowed(Generation, Mebibytes),
    /// A worker that stays had too little memory for its job.
    OutOfMemory(JobId),
    /// A process exited.
    Ended(EndedProcess),
}

impl Consequence {
    /// The job that has to run again, if its attempts are not used up.
    pub(crate) fn lost_job(&self) -> Option<JobId> {
        match self {
            Self::OutOfMemory(job) => Some(*job),
            Self::Ended(ended) => ended.process.job(),
            Self::None
            | Self::Loaded(..)
            | Self::Stepped(..)
            | Self::ImpossibleStep(_)
            | Self::Finished(_)
            | Self::GaveUp(..)
            | Self::Overflowed(..) => None,
        }
    }
}

/// A process that exited, with its last record.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EndedProcess {
    pub(crate) worker: Generation,
    pub(crate) process: ProcessRecord,
    pub(crate) end: WorkerEnd,
    /// The load of its model had run out of memory just before.
    pub(crate) raised: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessState {
    Starting,
    Loading,
    Idle,
    Busy(JobId),
    /// It was sent a cancel of this job, which has its answer.
    Unwinding(JobId),
    /// With the job that has to run elsewhere, if it has no answer yet.
    Leaving(Option<JobId>),
}

/// A worker whose process is not reaped.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ProcessRecord {
    pub(crate) name: WorkerName,
    pub(crate) device: Device,
    /// Memory reserved for its weights and a picture of the default size.
    pub(crate) promised: BTreeMap<Device, Mebibytes>,
    /// Memory reserved on its device for a larger picture.
    pub(crate) extra: Mebibytes,
    pub(crate) state: ProcessState,
    pub(crate) pid: Option<u32>,
    pub(crate) started: Moment,
    /// When it entered its present state.
    pub(crate) since: Moment,
    pub(crate) heard: Moment,
    pub(crate) progressed: Moment,
    /// Its last sign of work: a step, a part of its load, a count that rose.
    pub(crate) worked: Moment,
    pub(crate) work: u64,
    /// When its processor time was asked for, until the answer.
    pub(crate) asked: Option<Moment>,
    /// Its last step or part of its load.
    pub(crate) watched: Moment,
    /// The answers since then.
    pub(crate) samples: Vec<(Moment, Option<CpuTime>)>,
    pub(crate) permille: u16,
    pub(crate) footprint: Option<Footprint>,
    /// Memory that was reserved on its device because it held that already.
    pub(crate) growth: Mebibytes,
    /// It drew a picture larger than the default size.
    pub(crate) stretched: bool,
    pub(crate) outdated: bool,
    pub(crate) was_loading: bool,
    pub(crate) jobs_done: u64,
    pub(crate) stop_reason: Option<StopReason>,
    /// Its own words for why it cannot load.
    pub(crate) load_failure: Option<String>,
    pub(crate) stop_steps: Option<StopSteps>,
}

/// The steps of the stop plan so far: how many, when the last one, and when SIGKILL was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StopSteps {
    /// When it had entered the state that it was stopped in.
    pub(crate) from: Moment,
    pub(crate) steps: u32,
    pub(crate) last: Moment,
    pub(crate) killed: Option<Moment>,
}

/// An accepted job without an answer.
#[derive(Debug, Clone)]
pub(crate) struct JobRecord {
    pub(crate) model: ModelKey,
    pub(crate) ticket: Ticket,
    pub(crate) user: String,
    pub(crate) detached: bool,
    /// The client or operator who cancelled it while it waited for files. It ends at once.
    pub(crate) cancelled: Option<String>,
    pub(crate) priority: Priority,
    /// The device it asked for. `None` if the pool chose one because the others are too small.
    pub(crate) wish: Option<DeviceConstraint>,
    pub(crate) parameters: Parameters,
    pub(crate) accepted: Moment,
    pub(crate) deadline: Option<Moment>,
    /// When it last began to wait.
    pub(crate) since: Moment,
    pub(crate) on: Option<Generation>,
    pub(crate) attempts: u32,
    /// Steps finished: in the present attempt, or salvaged from the last one.
    pub(crate) step: u32,
    /// The step from which its last attempt resumed.
    pub(crate) resume_step: u32,
    pub(crate) began: Moment,
    /// Memory beyond what its size needs, since it ran out of memory.
    pub(crate) more: Mebibytes,
    /// It lost a worker, and runs before jobs that never ran.
    pub(crate) again: bool,
    pub(crate) losses: Vec<WorkerLoss>,
    /// The most steps that an attempt finished, and the losses before that attempt.
    pub(crate) furthest: u32,
    pub(crate) cleared: usize,
    /// Attempts in a row that salvaged no step, and when the first of them ended.
    pub(crate) fruitless: u32,
    /// How often in a row, without a new step, its worker went silent.
    pub(crate) silences: u32,
    pub(crate) fruitless_since: Option<Moment>,
    /// How often it ran out of memory.
    pub(crate) out_of_memory: u32,
}

/// A worker that ended with a job, or gave it up for lack of memory.
#[derive(Debug, Clone)]
pub(crate) struct WorkerLoss {
    pub(crate) worker: String,
    /// The words that an explanation has to contain.
    pub(crate) how: String,
    /// It is evidence against the job.
    pub(crate) accuses: bool,
    /// Steps that the attempt had finished.
    pub(crate) step: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct ModelRecord {
    pub(crate) spec: ModelSpec,
    pub(crate) offered: bool,
    pub(crate) stopped: bool,
    /// Slots that an operator stopped.
    pub(crate) held: BTreeSet<u32>,
    pub(crate) pinned: bool,
    /// The first slots that an operator wants filled.
    pub(crate) kept: u32,
    pub(crate) deaths: u64,
    /// Dead workers that were not replaced yet.
    pub(crate) owed: u32,
    /// The largest footprint measured.
    pub(crate) worst: Footprint,
    /// Percent added to its need, after a load ran out of memory.
    pub(crate) raised: u64,
    pub(crate) pace: PaceBounds,
    pub(super) waiting: BTreeSet<JobId>,
    pub(super) workers: BTreeSet<Generation>,
}

/// A device and its measurements.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeviceRecord {
    pub(crate) limit: Mebibytes,
    /// Its driver confirms when memory is free.
    pub(crate) confirms: bool,
    pub(crate) measured: Option<Mebibytes>,
    pub(crate) foreign: Option<Mebibytes>,
    pub(crate) total: Option<Mebibytes>,
    pub(crate) lost: bool,
    /// Its last measurement is too old.
    pub(crate) aged: bool,
    /// Until when nothing new is placed there, because it failed for several models.
    pub(crate) rests: Option<Moment>,
    /// The models whose workers lost their context there since a job was finished there.
    pub(crate) struck: BTreeSet<ModelKey>,
}

/// Memory of a dead worker that the device's driver has not confirmed as free.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SettlingMemory {
    pub(crate) device: Device,
    pub(crate) part: Mebibytes,
    pub(crate) until: Moment,
    pub(crate) given_up: bool,
}

impl ProcessRecord {
    pub(crate) fn is_live(&self) -> bool {
        !matches!(self.state, ProcessState::Leaving(_))
    }

    pub(crate) fn is_coming(&self) -> bool {
        matches!(self.state, ProcessState::Starting | ProcessState::Loading)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.state == ProcessState::Idle
    }

    pub(crate) fn is_resident(&self) -> bool {
        self.is_live() && !self.is_coming()
    }

    /// Its job, if the job has no answer yet.
    pub(crate) fn job(&self) -> Option<JobId> {
        match self.state {
            ProcessState::Busy(job) | ProcessState::Leaving(Some(job)) => Some(job),
            ProcessState::Starting
            | ProcessState::Loading
            | ProcessState::Idle
            | ProcessState::Unwinding(_)
            | ProcessState::Leaving(None) => None,
        }
    }

    /// A step or a part of its load: earlier samples of processor time no longer count.
    pub(crate) fn shows_work(&mut self, now: Moment) {
        (self.worked, self.watched, self.asked) = (now, now, None);
        self.samples.clear();
    }
}

impl JobRecord {
    /// The ends of workers after `step` steps that are evidence against it: it has got no further since.
    pub(crate) fn accusing(&self, step: u32) -> impl Iterator<Item = &WorkerLoss> {
        let losses = self.losses.iter().skip(self.cleared);
        losses.filter(move |loss| loss.accuses && loss.step == step)
    }

    /// Whether it may run on `device`, if that is known.
    pub(crate) fn serves(&self, device: Device) -> Option<bool> {
        self.wish.map(|wish| match wish {
            DeviceConstraint::Auto => true,
            DeviceConstraint::On(only) => only == device,
        })
    }

    /// Bytes of its prompts.
    pub(crate) fn text_bytes(&self) -> usize {
        let negative = self.parameters.negative.as_ref();
        self.parameters.prompt.len() + negative.map_or(0, |text| text.len())
    }
}

impl ModelRecord {
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
            pace: PaceBounds::default(),
            waiting: BTreeSet::new(),
            workers: BTreeSet::new(),
        }
    }
}
