//! One accepted job, which is answered exactly once.

use std::sync::Arc;
use std::time::Duration;

use ipc_protocol::ids::{DeviceConstraint, Generation, JobId};
use ipc_protocol::request::{ImageRequest, Priority};
use ipc_protocol::units::Mebibytes;

use crate::state::quarantine::Fingerprint;
use crate::state::queue::QueueEntry;
use crate::words::action::Parameters;
use crate::words::event::Ticket;
use crate::words::moment::Moment;
use crate::words::past::{JobPast, PastLoss};
use crate::words::registry::ModelId;

/// A job without an answer. Its answer takes it out of `Jobs`, so there is one.
#[derive(Debug)]
pub(crate) struct Job {
    entry: QueueEntry,
    model: ModelId,
    ticket: Ticket,
    detached: bool,
    parameters: Parameters,
    device: DeviceConstraint,
    accepted: Moment,
    deadline: Option<Moment>,
    stage: JobStage,
    /// Placements so far.
    attempts: u32,
    /// How each worker died that ran it.
    losses: Vec<Loss>,
    /// The losses before the last attempt that got further than any before. They accuse it no more.
    cleared: usize,
    /// The most steps that an attempt has finished.
    furthest_step: u32,
    /// Attempts in a row that ended without a new step to continue from.
    fruitless: u32,
    /// When the first of them ended.
    fruitless_since: Option<Moment>,
    /// How often in a row, without a new step, its worker went silent.
    silences: u32,
    /// How often it ran out of memory.
    out_of_memory: u32,
    /// Finished steps whose latents the driver holds.
    resume_step: u32,
    /// Later jobs that started while this one wanted their memory.
    overtaken: u32,
    /// Memory beyond the computed need, after it ran out of memory.
    more_room: Mebibytes,
    first_start: Option<FirstStart>,
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobStage {
    /// In its model's queue.
    Waiting { since: Moment },
    /// With a worker.
    Running { worker: Generation },
}

/// Where a job comes from: the part of its request that says nothing about the picture.
#[derive(Debug)]
pub(crate) struct Origin {
    ticket: Ticket,
    user: Arc<str>,
    priority: Priority,
    detached: bool,
    timeout: Option<Duration>,
}

/// When a job's first attempt began, and the part of the wait before in which its model was loading.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FirstStart {
    queue: Duration,
    load: Duration,
}

/// The death of a worker that ran the job.
#[derive(Debug, Clone)]
pub(crate) struct Loss {
    how: String,
    step: u32,
    suspect: bool,
}

impl Loss {
    /// A death told as `how`, after `step` steps; `suspect` if the job may have caused it.
    pub(crate) fn new(how: String, step: u32, suspect: bool) -> Self {
        Self { how, step, suspect }
    }

    pub(crate) fn how(&self) -> &str {
        &self.how
    }
}

impl FirstStart {
    /// Waiting time without loading.
    pub(crate) fn queue(self) -> Duration {
        self.queue
    }

    /// Waiting time in which its model was loading.
    pub(crate) fn load(self) -> Duration {
        self.load
    }
}

impl Origin {
    pub(crate) fn new(ticket: Ticket, user: &str, request: &ImageRequest) -> Self {
        Self {
            ticket,
            user: user.into(),
            priority: request.priority,
            detached: request.detached,
            timeout: request.timeout_ms.map(Duration::from_millis),
        }
    }
}

impl Job {
    /// A job that waits since `now`.
    pub(super) fn new(
        id: JobId,
        model: ModelId,
        origin: &Origin,
        parameters: Parameters,
        device: DeviceConstraint,
        now: Moment,
    ) -> Self {
        let cost = cost_of(&parameters);
        Self {
            entry: QueueEntry::new(id, origin.priority, origin.user.clone(), cost),
            model,
            ticket: origin.ticket,
            detached: origin.detached,
            parameters,
            device,
            accepted: now,
            deadline: origin.timeout.map(|timeout| now + timeout),
            stage: JobStage::Waiting { since: now },
            attempts: 0,
            losses: Vec::new(),
            cleared: 0,
            furthest_step: 0,
            fruitless: 0,
            fruitless_since: None,
            silences: 0,
            out_of_memory: 0,
            resume_step: 0,
            overtaken: 0,
            more_room: Mebibytes::ZERO,
            first_start: None,
        }
    }

    /// It goes on without its client.
    pub(crate) fn is_detached(&self) -> bool {
        self.detached
    }

    /// Its attempts so far, for the next daemon.
    pub(crate) fn past(&self) -> JobPast {
        let loss = |(number, loss): (usize, &Loss)| PastLoss {
            how: loss.how.clone(),
            step: loss.step,
            suspect: loss.suspect && number >= self.cleared,
        };
        JobPast {
            attempts: self.attempts,
            losses: self.losses.iter().enumerate().map(loss).collect(),
            fruitless: self.fruitless,
            out_of_memory: self.out_of_memory,
            resume_step: self.resume_step,
        }
    }

    /// Notes its attempts under an earlier daemon.
    pub(crate) fn recall(&mut self, past: JobPast) {
        self.attempts = past.attempts;
        let loss = |loss: PastLoss| Loss::new(loss.how, loss.step, loss.suspect);
        self.losses = past.losses.into_iter().map(loss).collect();
        let steps = self.losses.iter().map(|loss| loss.step);
        self.furthest_step = steps.fold(past.resume_step, u32::max);
        self.fruitless = past.fruitless;
        self.fruitless_since = (past.fruitless > 0).then_some(self.accepted);
        self.out_of_memory = past.out_of_memory;
        self.resume_step = past.resume_step.min(self.parameters.steps);
    }

    pub(crate) fn id(&self) -> JobId {
        self.entry.job()
    }

    pub(super) fn entry(&self) -> &QueueEntry {
        &self.entry
    }

    pub(crate) fn model(&self) -> ModelId {
        self.model
    }

    /// The user whom it counts for.
    pub(crate) fn user(&self) -> &str {
        self.entry.user()
    }

    /// It ends with the connection behind `ticket`.
    pub(crate) fn ends_with(&self, ticket: Ticket) -> bool {
        self.ticket == ticket && !self.detached
    }

    pub(crate) fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Where it may run.
    pub(crate) fn device(&self) -> DeviceConstraint {
        self.device
    }

    pub(crate) fn accepted(&self) -> Moment {
        self.accepted
    }

    /// When it fails if it has no answer by then.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.deadline
    }

    pub(crate) fn stage(&self) -> JobStage {
        self.stage
    }

    /// Placements so far.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(crate) fn losses(&self) -> &[Loss] {
        &self.losses
    }

    /// Deaths of workers after `step` steps that the job may have caused: no attempt since has got further.
    pub(crate) fn suspect_losses(&self, step: u32) -> impl Iterator<Item = &Loss> {
        let held = self.losses[self.cleared..].iter();
        held.filter(move |loss| loss.suspect && loss.step == step)
    }

    /// Attempts in a row that ended without a new step to continue from.
    pub(crate) fn fruitless(&self) -> u32 {
        self.fruitless
    }

    /// Notes that its worker went silent; returns how often in a row that has happened without a new step.
    pub(crate) fn note_silence(&mut self) -> u32 {
        self.silences += 1;
        self.silences
    }

    /// The time since the first of these attempts ended.
    pub(crate) fn fruitless_for(&self, now: Moment) -> Duration {
        let since = self.fruitless_since.unwrap_or(now);
        now.since(since)
    }

    /// How often it ran out of memory.
    pub(crate) fn out_of_memory(&self) -> u32 {
        self.out_of_memory
    }

    /// Finished steps that its next attempt continues after.
    pub(crate) fn resume_step(&self) -> u32 {
        self.resume_step
    }

    /// Later jobs that started while this one wanted their memory.
    pub(crate) fn overtaken(&self) -> u32 {
        self.overtaken
    }

    /// Memory beyond the computed need, after it ran out of memory.
    pub(crate) fn more_room(&self) -> Mebibytes {
        self.more_room
    }

    /// When its first attempt began; zeros before that.
    pub(crate) fn first_start(&self) -> FirstStart {
        self.first_start.unwrap_or_default()
    }

    pub(crate) fn fingerprint(&self, digest: &str) -> Fingerprint {
        Fingerprint::of(digest, &self.parameters)
    }

    /// Bytes of text it holds while it waits.
    pub(super) fn bytes(&self) -> usize {
        text_bytes(&self.parameters)
    }

    pub(crate) fn waiting_since(&self) -> Option<Moment> {
        match self.stage {
            JobStage::Waiting { since } => Some(since),
            JobStage::Running { .. } => None,
        }
    }

    /// Notes the loss of its worker. `resume_step` is the number of finished steps whose latents the driver
    /// has copied; what was salvaged before still holds if this attempt got no further.
    ///
    /// An attempt that got further than any before clears the job of the deaths before it.
    pub(crate) fn note_loss(&mut self, loss: Loss, resume_step: Option<u32>, now: Moment) {
        let before = self.resume_step;
        let steps = self.parameters.steps;
        self.resume_step = before.max(resume_step.unwrap_or(0)).min(steps);
        match self.resume_step > before {
            true => (self.fruitless, self.fruitless_since, self.silences) = (0, None, 0),
            false => {
                self.fruitless += 1;
                self.fruitless_since.get_or_insert(now);
            }
        }
        if loss.step > self.furthest_step {
            self.furthest_step = loss.step;
            self.cleared = self.losses.len();
        }
        self.losses.push(loss);
    }

    /// Notes that the job ran out of memory by its own need.
    pub(crate) fn note_out_of_memory(&mut self) {
        self.out_of_memory += 1;
    }

    /// Gives it `more` memory beyond the computed need from now on, unless it has some already.
    pub(crate) fn widen(&mut self, more: Mebibytes) {
        if self.more_room == Mebibytes::ZERO {
            self.more_room = more;
        }
    }

    /// Notes that a later job started first; returns how many have by now.
    pub(crate) fn note_overtaken(&mut self) -> u32 {
        self.overtaken += 1;
        self.overtaken
    }

    /// Turns a waiting job into a running one. The worker was spawned at `spawned` and ready at `ready`.
    pub(super) fn run(&mut self, worker: Generation, now: Moment, spawned: Moment, ready: Moment) {
        self.stage = JobStage::Running { worker };
        self.attempts += 1;
        let accepted = self.accepted;
        self.first_start.get_or_insert_with(|| {
            let waited = now.since(accepted);
            let load = ready.since(accepted.max(spawned)).min(waited);
            FirstStart {
                queue: waited - load,
                load,
            }
        });
    }

    /// Turns a running job into a waiting one.
    pub(super) fn wait(&mut self, now: Moment) {
        self.stage = JobStage::Waiting { since: now };
    }
}

/// Bytes of text in `parameters`.
pub(crate) fn text_bytes(parameters: &Parameters) -> usize {
    parameters.prompt.len() + parameters.negative.as_ref().map_or(0, |text| text.len())
}

/// The cost of a job in its user's account: steps times pixels, in units of 4096.
fn cost_of(parameters: &Parameters) -> u64 {
    (u64::from(parameters.steps) * parameters.size.pixels().div_ceil(4096)).max(1)
}
