//! What the loop holds of a job beside what the pool knows: latents and pixels.

use ipc_protocol::reading::Reading;
use pool::Ticket;

use super::handle::ModelFacts;

/// One accepted job.
#[derive(Debug)]
pub(super) struct JobHand {
    pub ticket: Ticket,
    /// Whose it is.
    pub user: String,
    pub checkpoint: Option<Checkpoint>,
    pub drawn: Option<Drawn>,
}

/// A picture that waits for the pool's `Answer`.
#[derive(Debug)]
pub(super) struct Drawn {
    pub rgb8: Vec<u8>,
    pub reading: Reading,
    pub model: ModelFacts,
}

/// Latents that another worker can go on from.
#[derive(Debug, Clone)]
pub(super) struct Checkpoint {
    pub step: u32,
    pub latents: Vec<u8>,
    /// The files that they were computed with.
    pub stamp: String,
}
