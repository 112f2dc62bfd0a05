//! The loop's entry of a job, besides the pool's: latents and pixels.

use std::time::Duration;

use ipc_protocol::reading::Reading;
use pool::{Moment, Ticket};

use super::ask::ModelReceipt;
use crate::telemetry::jobs::{JobFields, StartedAttempt};
use crate::telemetry::traces::job::JobTrace;

/// One accepted job.
#[derive(Debug)]
pub(super) struct JobEntry {
    pub ticket: Ticket,
    /// The fields of its log lines; its user is also the one who may cancel it.
    pub fields: JobFields,
    /// The last worker that got it.
    pub started: Option<StartedAttempt>,
    pub checkpoint: Option<SavedLatents>,
    pub drawn: Option<PendingPicture>,
    /// It goes on without its client, also under the next daemon.
    pub detached: bool,
    /// When its latents were last given to the journal.
    pub published: Option<Moment>,
    /// Its moments, if it is traced.
    pub trace: Option<JobTrace>,
}

/// A picture that waits for the pool's `Answer`.
#[derive(Debug)]
pub(super) struct PendingPicture {
    pub rgb8: Vec<u8>,
    /// The time to encode its prompt.
    pub encode: Duration,
    pub reading: Reading,
    pub model: ModelReceipt,
}

/// Latents from which another worker can resume.
#[derive(Debug, Clone)]
pub(super) struct SavedLatents {
    pub step: u32,
    pub latents: Vec<u8>,
    /// The files that they were computed with.
    pub stamp: String,
}
