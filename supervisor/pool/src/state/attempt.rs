//! One placement of a job on a worker.

use std::time::Duration;

use ipc_protocol::ids::JobId;

use crate::state::watch::Watch;
use crate::words::moment::Moment;

/// A job on its worker: where it began, how far it is, and the watch over its progress.
#[derive(Debug)]
pub(crate) struct Attempt {
    job: JobId,
    resume_step: u32,
    step: u32,
    steps: u32,
    pixels: u64,
    began: Moment,
    progressed: Moment,
    watch: Watch,
}

/// The steps that one message added to an attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepTaken {
    first: bool,
    took: Duration,
}

impl StepTaken {
    /// The attempt's first progress, which includes encoding the prompt.
    pub(crate) fn is_first(self) -> bool {
        self.first
    }

    /// Time per step.
    pub(crate) fn took(self) -> Duration {
        self.took
    }
}

impl Attempt {
    /// An attempt that begins now and continues after `resume_step`.
    pub(crate) fn new(job: JobId, resume_step: u32, steps: u32, pixels: u64, now: Moment) -> Self {
        Self {
            job,
            resume_step,
            step: resume_step,
            steps,
            pixels,
            began: now,
            progressed: now,
            watch: Watch::new(now),
        }
    }

    pub(crate) fn job(&self) -> JobId {
        self.job
    }

    /// Steps that were finished before it began.
    pub(crate) fn resume_step(&self) -> u32 {
        self.resume_step
    }

    /// Steps finished so far.
    pub(crate) fn step(&self) -> u32 {
        self.step
    }

    /// Steps in all.
    pub(crate) fn steps(&self) -> u32 {
        self.steps
    }

    pub(crate) fn pixels(&self) -> u64 {
        self.pixels
    }

    pub(crate) fn began(&self) -> Moment {
        self.began
    }

    /// When it began or finished its last step.
    pub(crate) fn progressed(&self) -> Moment {
        self.progressed
    }

    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    pub(crate) fn watch_mut(&mut self) -> &mut Watch {
        &mut self.watch
    }

    /// Notes that `step` steps are finished; `None` if that is not news.
    pub(crate) fn finish_step(&mut self, step: u32, now: Moment) -> Option<StepTaken> {
        if step <= self.step {
            return None;
        }
        let taken = StepTaken {
            first: self.step == self.resume_step,
            took: now.since(self.progressed) / (step - self.step),
        };
        (self.step, self.progressed) = (step, now);
        self.watch = Watch::new(now);
        Some(taken)
    }

    /// Moves the last progress by a time in which nothing could be heard.
    pub(crate) fn excuse(&mut self, now: Moment, lasted: Duration) {
        self.progressed = (self.progressed + lasted).min(now);
    }
}
