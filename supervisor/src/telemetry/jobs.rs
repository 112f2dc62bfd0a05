//! Log lines about jobs: accepted, started, finished, failed, cancelled.

use std::time::Duration;

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::{JobId, ModelKey, WorkerName};
use ipc_protocol::units::PictureSize;
use pool::PictureFacts;
use tracing::{debug, info};

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

/// A worker started a job after the finished step `resume_step`.
pub fn started(fields: &JobFields, started: &StartedAttempt, resume_step: u32) {
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
}

/// A job's picture is drawn; `encode` is the duration of encoding the prompt.
pub fn finished(fields: &JobFields, facts: &PictureFacts, encode: Duration) {
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
        encode_ms = ms(encode),
        denoise_ms = ms(facts.denoise),
        decode_ms = ms(facts.decode),
        "Job finished"
    );
}

/// A job ended without a picture. `last` is its last attempt, if there was one.
pub fn ended(fields: &JobFields, last: Option<&StartedAttempt>, failure: &Failure) {
    let event = if failure.kind == FailureKind::Cancelled {
        "Job cancelled"
    } else {
        "Job failed"
    };
    info!(
        job = fields.job.0,
        user = fields.user,
        model = %fields.model,
        worker = last.map(|last| tracing::field::display(&last.worker)),
        attempt = last.map(|last| last.attempt),
        seed = fields.seed,
        size = %fields.size,
        steps = fields.steps,
        reason = failure.kind.word(),
        error = failure.message,
        "{event}"
    );
}

/// A user tried to cancel a job of another user.
pub fn not_cancelled(job: JobId, user: &str) {
    debug!(
        job = job.0,
        user, "Job not cancelled: it belongs to another user"
    );
}
