//! What the loop holds of a job beside what the pool knows: latents and pixels.

use std::time::Duration;

use ipc_protocol::reading::Reading;
use pool::Ticket;

use super::ask::ModelReceipt;
use crate::telemetry::jobs::{JobFields, StartedAttempt};

/// One accepted job.
#[derive(Debug)]
pub(super) struct JobEntry {
    pub ticket: Ticket,
    /// What the log says of it; its user, too, is the one who may cancel it.
    pub fields: JobFields,
    /// The last worker that got it.
    pub started: Option<StartedAttempt>,
    pub checkpoint: Option<SavedLatents>,
    pub drawn: Option<PendingPicture>,
}

/// A picture that waits for the pool's `Answer`.
#[derive(Debug)]
pub(super) struct PendingPicture {
    pub rgb8: Vec<u8>,
    /// What encoding its prompt took.
    pub encode: Duration,
    pub reading: Reading,
    pub model: ModelReceipt,
}

/// Latents that another worker can go on from.
#[derive(Debug, Clone)]
pub(super) struct SavedLatents {
    pub step: u32,
    pub latents: Vec<u8>,
    /// The files that they were computed with.
    pub stamp: String,
}
