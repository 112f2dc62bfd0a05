//! One job: what we accepted and must answer exactly once.

use std::time::Duration;

use ipc_protocol::ids::{DeviceWish, Generation, JobId};
use ipc_protocol::units::Mebibytes;

use crate::action::Parameters;
use crate::event::Ticket;
use crate::model::ModelId;
use crate::moment::Moment;
use crate::quarantine::Fingerprint;
use crate::queue::Place;
use crate::watch::Watch;

/// An accepted job without an answer. Its answer takes it out of the pool's map, so there is one.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) model: ModelId,
    pub(crate) ticket: Ticket,
    pub(crate) detached: bool,
    pub(crate) place: Place,
    pub(crate) parameters: Parameters,
    pub(crate) device: DeviceWish,
    pub(crate) accepted: Moment,
    pub(crate) deadline: Option<Moment>,
    pub(crate) stage: Stage,
    /// Placements so far.
    pub(crate) attempts: u32,
    /// How each worker died that ran it.
    pub(crate) losses: Vec<Loss>,
    /// Attempts in a row that ended without a step beyond the last.
    pub(crate) fruitless: u32,
    /// How often it ran out of memory.
    pub(crate) out_of_memory: u32,
    /// Finished steps whose latents the driver holds.
    pub(crate) salvaged: u32,
    /// Later jobs that started while this one wanted their room.
    pub(crate) overtaken: u32,
    /// Room beyond the computed, after it ran out of memory.
    pub(crate) more_room: Mebibytes,
    pub(crate) first_start: Option<FirstStart>,
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// In its model's queue.
    Waiting { since: Moment },
    /// With a worker.
    Running { worker: Generation },
}

/// When its first attempt began, and how much of the wait before was loading.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FirstStart {
    pub(crate) queue: Duration,
    pub(crate) load: Duration,
}

/// A worker that died with the job.
#[derive(Debug, Clone)]
pub(crate) struct Loss {
    pub(crate) how: String,
    /// It may have been the job that killed it.
    pub(crate) suspect: bool,
}

/// One placement of a job on a worker.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) job: JobId,
    pub(crate) from_step: u32,
    pub(crate) step: u32,
    pub(crate) steps: u32,
    pub(crate) pixels: u64,
    pub(crate) began: Moment,
    pub(crate) progressed: Moment,
    pub(crate) watch: Watch,
}

impl Job {
    pub(crate) fn id(&self) -> JobId {
        self.place.job
    }

    pub(crate) fn fingerprint(&self, digest: &str) -> Fingerprint {
        Fingerprint::of(digest, &self.parameters)
    }

    /// Text bytes it holds while it waits.
    pub(crate) fn bytes(&self) -> usize {
        text_bytes(&self.parameters)
    }

    pub(crate) fn waiting_since(&self) -> Option<Moment> {
        match self.stage {
            Stage::Waiting { since } => Some(since),
            Stage::Running { .. } => None,
        }
    }
}

/// Bytes of text in `parameters`.
pub(crate) fn text_bytes(parameters: &Parameters) -> usize {
    parameters.prompt.len() + parameters.negative.as_ref().map_or(0, |text| text.len())
}

/// What a job is worth in its user's account: steps times pixels, in units of 4096.
pub(crate) fn cost_of(parameters: &Parameters) -> u64 {
    (u64::from(parameters.steps) * parameters.size.pixels().div_ceil(4096)).max(1)
}
