//! Jobs that an earlier daemon accepted, with their earlier attempts.

use ipc_protocol::ids::JobId;
use ipc_protocol::request::ImageRequest;

/// A job that an earlier daemon accepted and did not answer.
#[derive(Debug, Clone, PartialEq)]
pub struct RestoredJob {
    /// Its id, which clients know.
    pub job: JobId,
    /// A request for this one picture, with every value that was chosen: model, size, steps, guidance and seed.
    pub request: ImageRequest,
    /// The user whose share it counts against.
    pub user: String,
    /// The digest of its model when it was accepted.
    pub digest: String,
    /// Its attempts so far.
    pub past: JobPast,
}

/// The earlier attempts of a job that count in its further life.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobPast {
    /// Placements.
    pub attempts: u32,
    /// How each worker died that ran it.
    pub losses: Vec<PastLoss>,
    /// Attempts in a row that ended without a new step.
    pub fruitless: u32,
    /// How often it ran out of memory.
    pub out_of_memory: u32,
    /// Finished steps whose latents the driver holds.
    pub resume_step: u32,
}

/// The death of a worker that ran a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastLoss {
    /// In words.
    pub how: String,
    /// Steps that were finished.
    pub step: u32,
    /// The job may have caused it.
    pub suspect: bool,
}
