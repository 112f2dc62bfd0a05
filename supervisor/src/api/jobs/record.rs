//! The record of one job: its facts, its progress, and the log that readers follow.

use std::sync::Arc;
use std::time::Duration;

use ipc_protocol::ids::WorkerName;
use ipc_protocol::job::{JobState, JobStatus, JobTimes, PictureState, listed};
use ipc_protocol::status::QueuedStatus;
use pool::{Moment, PictureFacts, Progress};

use super::facts::{JobEnd, JobFacts};
use super::kept::DropReason;
use super::pace::{self, ModelPace, StepPace};
use super::reader::JobLog;
use crate::telemetry::ms;

/// The record of one job.
#[derive(Debug)]
pub(super) struct TrackedJob {
    pub facts: JobFacts,
    pub log: Arc<JobLog>,
    /// When the request arrived, or when this daemon began.
    since: Moment,
    /// Its wait under earlier daemons.
    waited_before: Duration,
    /// The last finished step.
    step: u32,
    stage: TrackedStage,
}

/// The stage of a job.
#[derive(Debug)]
enum TrackedStage {
    Queued {
        /// From 1; 0 if unknown.
        position: u32,
        reason: String,
    },
    Running {
        /// `None` if the report of its start was dropped.
        worker: Option<WorkerName>,
        attempt: u32,
        resume_step: u32,
        pace: Option<StepPace>,
    },
    /// The end is in the facts.
    Ended { at: Moment, picture: Keeping },
}

/// Whether the picture of an ended job is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeping {
    /// There is none, or it went to the client that asked for it.
    Never,
    Kept,
    Dropped(DropReason),
}

/// Facts of other jobs for the status of one.
#[derive(Debug, Default)]
pub(super) struct Surroundings<'a> {
    /// Its line in the pool's report.
    pub queued: Option<&'a QueuedStatus>,
    /// The pace of its model.
    pub pace: Option<ModelPace>,
    /// Running jobs of its model.
    pub running: usize,
    /// Until when its picture is kept.
    pub kept_until: Option<Moment>,
}

impl TrackedJob {
    /// The record of a job that waits.
    pub fn new(facts: JobFacts, since: Moment) -> Self {
        let reason = match &facts.accepted {
            None => format!("it waits for the files of {}", facts.model),
            Some(_) => String::new(),
        };
        Self {
            facts,
            log: Arc::default(),
            since,
            waited_before: Duration::ZERO,
            step: 0,
            stage: TrackedStage::Queued {
                position: 0,
                reason,
            },
        }
    }

    /// The record of a job that has waited under earlier daemons.
    pub fn restored(facts: JobFacts, since: Moment, waited_before: Duration) -> Self {
        Self {
            waited_before,
            ..Self::new(facts, since)
        }
    }

    pub fn is_running(&self) -> bool {
        matches!(self.stage, TrackedStage::Running { .. })
    }

    pub fn is_queued(&self) -> bool {
        matches!(self.stage, TrackedStage::Queued { .. })
    }

    /// Whether its picture is kept; `None` before its end.
    pub fn keeping(&self) -> Option<Keeping> {
        match self.stage {
            TrackedStage::Ended { picture, .. } => Some(picture),
            TrackedStage::Queued { .. } | TrackedStage::Running { .. } => None,
        }
    }

    /// Notes its progress.
    pub fn advance(&mut self, progress: &Progress, now: Moment) {
        match (progress, &mut self.stage) {
            (Progress::Waiting { position, reason }, stage) => {
                *stage = TrackedStage::Queued {
                    position: *position,
                    reason: reason.clone(),
                };
            }
            (Progress::Loading { permille }, TrackedStage::Queued { reason, .. }) => {
                *reason = format!("its model is loading: {} %", permille / 10);
            }
            (
                Progress::Loading { .. },
                TrackedStage::Running { .. } | TrackedStage::Ended { .. },
            ) => {}
            (
                Progress::Started {
                    worker,
                    attempt,
                    resume_step,
                },
                stage,
            ) => {
                self.step = *resume_step;
                *stage = TrackedStage::Running {
                    worker: Some(worker.clone()),
                    attempt: *attempt,
                    resume_step: *resume_step,
                    pace: None,
                };
            }
            (Progress::Step { index, elapsed, .. }, _) => self.stepped(*index, *elapsed, now),
        }
    }

    fn stepped(&mut self, step: u32, elapsed: Duration, now: Moment) {
        self.step = step;
        if !self.is_running() {
            self.stage = TrackedStage::Running {
                worker: None,
                attempt: 1,
                resume_step: 0,
                pace: None,
            };
        }
        if let TrackedStage::Running {
            resume_step, pace, ..
        } = &mut self.stage
        {
            match pace {
                Some(pace) => pace.step(step, elapsed, now),
                None => *pace = Some(StepPace::begin(*resume_step, step, elapsed, now)),
            }
        }
    }

    /// Notes its end.
    pub fn end(&mut self, end: JobEnd, picture: Keeping, now: Moment) {
        self.facts.end = Some(end);
        self.stage = TrackedStage::Ended { at: now, picture };
        if picture != Keeping::Kept {
            self.facts.shorten();
        }
    }

    /// Notes that its picture is dropped.
    pub fn drop_picture(&mut self, reason: DropReason) {
        if let TrackedStage::Ended { picture, .. } = &mut self.stage {
            *picture = Keeping::Dropped(reason);
            self.facts.shorten();
        }
    }

    /// Estimated time until its end.
    fn estimate(&self, position: u32, around: &Surroundings<'_>, now: Moment) -> Option<Duration> {
        let accepted = self.facts.accepted.as_ref()?;
        let picture = around
            .pace
            .map(|pace| pace.picture(accepted.size, accepted.steps));
        match &self.stage {
            TrackedStage::Queued { .. } if position == 0 => None,
            TrackedStage::Queued { .. } => {
                Some(pace::of_waiting(position, around.running, picture?))
            }
            TrackedStage::Running {
                pace: Some(pace), ..
            } => {
                let decode = accepted.decode.unwrap_or_default();
                Some(pace.rest(accepted.steps, decode, now))
            }
            TrackedStage::Running { pace: None, .. } => picture,
            TrackedStage::Ended { .. } => None,
        }
    }

    /// The job as doors list it.
    pub fn status(&self, around: &Surroundings<'_>, now: Moment) -> JobStatus {
        let facts = &self.facts;
        let accepted = facts.accepted.as_ref();
        let finished = match &facts.end {
            Some(JobEnd::Finished(finished)) => Some(finished),
            Some(JobEnd::Failed(_)) | None => None,
        };
        let (position, reason) = self.place(around);
        let (worker, attempts) = self.worker(finished);
        JobStatus {
            job: facts.job,
            user: facts.user.clone(),
            model: facts.model.clone(),
            prompt: listed(&facts.request.prompt).to_owned(),
            index: facts.index,
            width: accepted.map(|accepted| accepted.size.width),
            height: accepted.map(|accepted| accepted.size.height),
            seed: facts.seed(),
            steps: accepted.map(|accepted| accepted.steps),
            created: facts.created,
            detached: facts.request.detached,
            state: self.state(),
            step: self.step,
            position,
            waiting_s: (self.waited_before + self.until(now).since(self.since)).as_secs_f64(),
            reason,
            eta_s: self
                .estimate(position, around, now)
                .map(|rest| rest.as_secs_f64()),
            worker: worker.map(|worker| worker.to_string()),
            attempts,
            times: finished.map(times),
            failure: match &facts.end {
                Some(JobEnd::Failed(failure)) => Some(failure.clone().fitting()),
                Some(JobEnd::Finished(_)) | None => None,
            },
            picture: self.picture(),
            kept_s: around
                .kept_until
                .map(|until| until.since(now).as_secs_f64()),
        }
    }

    /// Its state.
    pub fn state(&self) -> JobState {
        match &self.facts.end {
            Some(end) => end.state(),
            None if self.is_running() => JobState::Running,
            None => JobState::Queued,
        }
    }

    fn picture(&self) -> PictureState {
        match self.keeping() {
            None | Some(Keeping::Never) => PictureState::None,
            Some(Keeping::Kept) => PictureState::Kept,
            Some(Keeping::Dropped(_)) => PictureState::Gone,
        }
    }

    /// Position and reason of its wait; the pool's report is newer than the last update.
    fn place(&self, around: &Surroundings<'_>) -> (u32, String) {
        let TrackedStage::Queued { position, reason } = &self.stage else {
            return (0, String::new());
        };
        let (position, reason) = match around.queued {
            Some(queued) if queued.position > 0 => (queued.position, &queued.reason),
            Some(_) | None => (*position, reason),
        };
        (position, listed(reason).to_owned())
    }

    fn worker<'a>(&'a self, finished: Option<&'a PictureFacts>) -> (Option<&'a WorkerName>, u32) {
        match (&self.stage, finished) {
            (_, Some(facts)) => (Some(&facts.worker), facts.attempts),
            (
                TrackedStage::Running {
                    worker, attempt, ..
                },
                None,
            ) => (worker.as_ref(), *attempt),
            (TrackedStage::Queued { .. } | TrackedStage::Ended { .. }, None) => (None, 0),
        }
    }

    /// Now, or its end.
    fn until(&self, now: Moment) -> Moment {
        match self.stage {
            TrackedStage::Ended { at, .. } => at,
            TrackedStage::Queued { .. } | TrackedStage::Running { .. } => now,
        }
    }
}

fn times(facts: &PictureFacts) -> JobTimes {
    JobTimes {
        queue_ms: ms(facts.queue),
        load_ms: ms(facts.load),
        denoise_ms: ms(facts.denoise),
        decode_ms: ms(facts.decode),
    }
}
