//! A request on its way in.

use ipc_protocol::request::ImageRequest;

use crate::words::event::Ticket;
use crate::words::past::JobPast;

/// A request as a client sent it.
#[derive(Debug)]
pub(crate) struct NewRequest {
    pub(crate) ticket: Ticket,
    pub(crate) request: ImageRequest,
    /// The user whose share it counts against.
    pub(crate) user: String,
    /// Random bits for the seed if the request has none.
    pub(crate) entropy: u64,
    /// An earlier daemon accepted it.
    pub(crate) before: Option<AcceptedBefore>,
}

/// The facts of a job that an earlier daemon accepted.
#[derive(Debug)]
pub(crate) struct AcceptedBefore {
    /// The digest of its model then.
    pub(crate) digest: String,
    pub(crate) past: JobPast,
}

impl NewRequest {
    /// It was accepted before, so that neither quotas nor full queues refuse it.
    pub(crate) fn is_restored(&self) -> bool {
        self.before.is_some()
    }

    /// Bytes of text that its jobs hold while they wait.
    pub(crate) fn text_bytes(&self) -> usize {
        let negative = self.request.negative.as_ref().map_or(0, String::len);
        (self.request.prompt.len() + negative) * self.request.count as usize
    }
}
