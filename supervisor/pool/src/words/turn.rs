//! One call of `Pool::handle`: its time, and the actions it returns.

use ipc_protocol::failure::Failure;
use ipc_protocol::ids::JobId;

use crate::words::action::{Action, Outcome, Progress};
use crate::words::event::Ticket;
use crate::words::lasting::LastingFact;
use crate::words::moment::Moment;
use crate::words::notice::Notice;

/// Carried through one call of `Pool::handle`.
pub(crate) struct Turn<'a> {
    now: Moment,
    actions: &'a mut Vec<Action>,
}

impl<'a> Turn<'a> {
    /// A call at `now` that appends to `actions`.
    pub(crate) fn new(now: Moment, actions: &'a mut Vec<Action>) -> Self {
        Self { now, actions }
    }

    /// The time of the event.
    pub(crate) fn now(&self) -> Moment {
        self.now
    }

    /// Actions added so far.
    pub(crate) fn len(&self) -> usize {
        self.actions.len()
    }

    pub(crate) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(crate) fn tell(&mut self, notice: Notice) {
        self.act(Action::Tell(notice));
    }

    /// Reports a broken rule of the pool itself. The simulation and the tests fail on it; in production it
    /// is an error in the log, and the caller skips the step that failed.
    pub(crate) fn defect(&mut self, what: impl Into<String>) {
        self.tell(Notice::Defect { what: what.into() });
    }

    pub(crate) fn remember(&mut self, fact: LastingFact) {
        self.act(Action::Remember(fact));
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
