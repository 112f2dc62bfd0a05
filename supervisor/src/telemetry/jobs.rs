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

/// A request was accepted as a job.
pub fn accepted(fields: &JobFields) {
    let JobFields {
        job,
        user,
        model,
        size,
        steps,
        seed,
    } = fields;
    info!(job = job.0, user, %model, seed, %size, steps, "Job accepted");
}

/// A worker started a job after the finished step `resume_step`.
pub fn started(fields: &JobFields, started: &StartedAttempt, resume_step: u32) {
    let JobFields {
        job,
        user,
        model,
        size,
        steps,
        seed,
    } = fields;
    let StartedAttempt { worker, attempt } = started;
    info!(
        job = job.0, user, %model, %worker, attempt, seed, %size, steps, resume_step, "Job started"
    );
}

/// A job's picture is drawn; `encode` is the duration of encoding the prompt.
pub fn finished(fields: &JobFields, facts: &PictureFacts, encode: Duration) {
    let JobFields {
        job, user, model, ..
    } = fields;
    info!(
        job = job.0,
        user,
        %model,
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
    let JobFields {
        job,
        user,
        model,
        size,
        steps,
        seed,
    } = fields;
    let worker = last.map(|last| tracing::field::display(&last.worker));
    let attempt = last.map(|last| last.attempt);
    let (reason, error) = (failure.kind.word(), failure.message.as_str());
    if failure.kind == FailureKind::Cancelled {
        info!(
            job = job.0, user, %model, worker, attempt, seed, %size, steps, reason, error, "Job cancelled"
        );
    } else {
        info!(
            job = job.0, user, %model, worker, attempt, seed, %size, steps, reason, error, "Job failed"
        );
    }
}

/// A user tried to cancel a job of another user.
pub fn not_cancelled(job: JobId, user: &str) {
    debug!(
        job = job.0,
        user, "Job not cancelled: it belongs to another user"
    );
}
