//! The lines about jobs: accepted, started, finished, failed, cancelled, one each.

use std::time::Duration;

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::{JobId, ModelKey, WorkerName};
use ipc_protocol::units::PictureSize;
use pool::PictureFacts;
use tracing::{debug, info};

use super::ms;

/// The fields that every line about one job carries. The prompt is not one of them: it is its user's.
#[derive(Debug, Clone)]
pub struct JobFields {
    /// The job.
    pub job: JobId,
    /// On whose behalf it was asked for.
    pub user: String,
    /// What draws it.
    pub model: ModelKey,
    /// Pixels.
    pub size: PictureSize,
    /// Denoising steps.
    pub steps: u32,
    /// Of this image.
    pub seed: u64,
}

/// A worker that got a job, and which attempt at it this is, from 1.
#[derive(Debug, Clone)]
pub struct StartedAttempt {
    /// The worker.
    pub worker: WorkerName,
    /// Placements so far, this one included.
    pub attempt: u32,
}

/// A request became a job.
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

/// A worker got a job, and begins after `resume_step`.
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

/// A job's picture is drawn; `encode` is what the prompt took.
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

/// A job ended without a picture, after its last attempt if there was one.
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

/// A user asked to cancel another user's job.
pub fn not_cancelled(job: JobId, user: &str) {
    debug!(job = job.0, user, "Not cancelled: the job of another user");
}
