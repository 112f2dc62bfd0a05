//! One call of `handle`: the time it happens at and the actions it adds.

use ipc_protocol::failure::Failure;
use ipc_protocol::ids::JobId;

use crate::action::{Action, Notice, Outcome, Progress};
use crate::event::Ticket;
use crate::moment::Moment;

/// Carried through a call of `handle`.
pub(crate) struct Turn<'a> {
    pub(crate) now: Moment,
    pub(crate) actions: &'a mut Vec<Action>,
}

impl Turn<'_> {
    pub(crate) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(crate) fn tell(&mut self, notice: Notice) {
        self.act(Action::Tell(notice));
    }

    pub(crate) fn report(&mut self, job: JobId, progress: Progress) {
        self.act(Action::Report { job, progress });
    }

    pub(crate) fn refuse(&mut self, ticket: Ticket, failure: Failure) {
        self.act(Action::Refuse { ticket, failure });
    }

    pub(crate) fn fail(&mut self, job: JobId, failure: Failure) {
        let outcome = Outcome::Failure(failure);
        self.act(Action::Answer { job, outcome });
    }

    pub(crate) fn acknowledge(&mut self, ticket: Ticket, lines: Vec<String>, success: bool) {
        self.act(Action::Acknowledge {
            ticket,
            lines,
            success,
        });
    }
}
