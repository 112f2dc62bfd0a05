//! Log lines about jobs, with the metrics that move beside them.

use std::time::Duration;

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::{JobId, ModelKey, WorkerName};
use ipc_protocol::units::PictureSize;
use pool::PictureFacts;
use tracing::{debug, info};

use super::metrics::names::{
    ADMISSION_REJECTS, FINISHED, JOB_DURATION, JOB_ENERGY, JOBS, NONE, RESUMED_STEPS, STEP_DURATION,
};
use super::ms;

/// The fields of every line about a job. The prompt is never logged, because it is private.
#[derive(Debug, Clone)]
pub struct JobFields {
    pub job: JobId,
    /// User that the job counts for.
    pub user: String,
    /// Key of the model.
    pub model: ModelKey,
    /// Size in pixels.
    pub size: PictureSize,
    pub steps: u32,
    /// Seed of this picture.
    pub seed: u64,
}

/// An attempt at a job.
#[derive(Debug, Clone)]
pub struct StartedAttempt {
    /// The worker that runs it.
    pub worker: WorkerName,
    /// Number of the attempt, from 1.
    pub attempt: u32,
}

/// A request waits for the files of its model; its jobs have ids.
pub fn await_files(user: &str, model: &ModelKey, jobs: &[JobId]) {
    for job in jobs {
        info!(job = job.0, user, %model, "Job waits for the files of its model");
    }
}

/// A request was accepted as a job.
pub fn accepted(fields: &JobFields) {
    info!(
        job = fields.job.0,
        user = fields.user,
        model = %fields.model,
        seed = fields.seed,
        size = %fields.size,
        steps = fields.steps,
        "Job accepted"
    );
}

/// A request at the HTTP door became these jobs.
pub fn requested(request: &str, jobs: &[JobId]) {
    for job in jobs {
        info!(job = job.0, request, "Job of an HTTP request");
    }
}

/// A request did not become jobs.
#[derive(Debug)]
pub struct RequestRefused<'a> {
    /// User that it counts for.
    pub user: &'a str,
    pub failure: &'a Failure,
}

impl RequestRefused<'_> {
    pub fn tell(&self) {
        let Self { user, failure } = self;
        let reason = failure.kind.word();
        info!(user, reason, error = failure.message, "Request refused");
        ADMISSION_REJECTS.add([reason], 1);
    }
}

/// A worker got a job, which it continues after the finished step `resume_step`.
#[derive(Debug)]
pub struct JobStarted<'a> {
    pub fields: &'a JobFields,
    pub started: &'a StartedAttempt,
    pub resume_step: u32,
}

impl JobStarted<'_> {
    pub fn tell(&self) {
        let Self {
            fields,
            started,
            resume_step,
        } = self;
        info!(
            job = fields.job.0,
            user = fields.user,
            model = %fields.model,
            worker = %started.worker,
            attempt = started.attempt,
            seed = fields.seed,
            size = %fields.size,
            steps = fields.steps,
            resume_step,
            "Job started"
        );
        RESUMED_STEPS.add([fields.model.as_str()], u64::from(*resume_step));
    }
}

/// A step of a job is finished.
#[derive(Debug)]
pub struct StepDone<'a> {
    pub job: JobId,
    pub worker: &'a WorkerName,
    /// The finished step, from 1.
    pub step: u32,
    /// As the worker measured it.
    pub took: Duration,
}

impl StepDone<'_> {
    pub fn tell(&self) {
        let Self {
            job,
            worker,
            step,
            took,
        } = self;
        debug!(job = job.0, %worker, step, step_ms = ms(*took), "Step finished");
        STEP_DURATION.time([worker.model.as_str()], *took);
    }
}

/// A job's picture is drawn.
#[derive(Debug)]
pub struct JobFinished<'a> {
    pub fields: &'a JobFields,
    pub facts: &'a PictureFacts,
    /// Duration of encoding the prompt.
    pub encode: Duration,
}

impl JobFinished<'_> {
    pub fn tell(&self) {
        let Self {
            fields,
            facts,
            encode,
        } = self;
        info!(
            job = fields.job.0,
            user = fields.user,
            model = %fields.model,
            worker = %facts.worker,
            attempt = facts.attempts,
            seed = facts.seed,
            size = %facts.size,
            steps = facts.steps,
            queue_ms = ms(facts.queue),
            load_ms = ms(facts.load),
            encode_ms = ms(*encode),
            denoise_ms = ms(facts.denoise),
            decode_ms = ms(facts.decode),
            "Job finished"
        );
        let model = fields.model.as_str();
        JOBS.add([model, FINISHED, NONE], 1);
        for (phase, took) in [
            ("queue", facts.queue),
            ("load", facts.load),
            ("encode", *encode),
            ("denoise", facts.denoise),
            ("decode", facts.decode),
        ] {
            JOB_DURATION.time([model, phase], took);
        }
    }
}

/// A job ended without a picture.
#[derive(Debug)]
pub struct JobEnded<'a> {
    pub fields: &'a JobFields,
    /// Its last attempt, if there was one.
    pub last: Option<&'a StartedAttempt>,
    pub failure: &'a Failure,
}

impl JobEnded<'_> {
    pub fn tell(&self) {
        let Self {
            fields,
            last,
            failure,
        } = self;
        let (event, outcome) = match failure.kind == FailureKind::Cancelled {
            true => ("Job cancelled", "cancelled"),
            false => ("Job failed", "failed"),
        };
        let reason = failure.kind.word();
        info!(
            job = fields.job.0,
            user = fields.user,
            model = %fields.model,
            worker = last.map(|last| tracing::field::display(&last.worker)),
            attempt = last.map(|last| last.attempt),
            seed = fields.seed,
            size = %fields.size,
            steps = fields.steps,
            reason,
            error = failure.message,
            "{event}"
        );
        JOBS.add([fields.model.as_str(), outcome, reason], 1);
    }
}

/// The energy of a GPU for a finished job is known.
#[derive(Debug)]
pub struct JobEnergy<'a> {
    pub job: JobId,
    pub model: &'a ModelKey,
    pub joules: f64,
}

impl JobEnergy<'_> {
    pub fn tell(&self) {
        let Self { job, model, joules } = self;
        debug!(job = job.0, %model, joules, "Energy of a job measured");
        JOB_ENERGY.observe([model.as_str()], *joules);
    }
}

/// A user tried to cancel a job of another user.
pub fn not_cancelled(job: JobId, user: &str) {
    debug!(
        job = job.0,
        user, "Job not cancelled: it belongs to another user"
    );
}
