//! Jobs that somebody does not want any more.

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::JobId;

use crate::event::Ticket;
use crate::pool::Pool;
use crate::turn::Turn;

impl Pool {
    pub(crate) fn request_cancelled(&mut self, turn: &mut Turn, id: JobId, by: &str) {
        let Some(model) = self.jobs.get(&id).map(|job| job.model) else {
            return;
        };
        let failure = Failure::new(FailureKind::Cancelled, format!("cancelled by {by}"));
        self.end_job(turn, id, failure);
        self.abandon_loads(turn, model);
    }

    /// Detached jobs outlive the connection they came from, the others do not.
    pub(crate) fn client_gone(&mut self, turn: &mut Turn, ticket: Ticket) {
        let gone: Vec<JobId> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.ticket == ticket && !job.detached)
            .map(|(&id, _)| id)
            .collect();
        for id in gone {
            self.request_cancelled(turn, id, "the client, which is gone");
        }
    }
}
