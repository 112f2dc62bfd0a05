//! How a job may end, by what happened to it and to its model.

use std::time::Duration;

use ipc_protocol::failure::FailureKind;
use ipc_protocol::ids::JobId;
use pool::{Event, Files, ModelSpec, Moment, PictureFacts};

use super::{Fate, News, Oracle, Troubles};

/// The longest a failed load keeps its model from being tried.
const COOLING_MAX: Duration = Duration::from_secs(300);
/// A picture may come this long after its deadline: a real clock is heard late.
const LATE_MAX: Duration = Duration::from_secs(1);

impl Oracle {
    pub(super) fn may_fail(
        &self,
        now: Moment,
        event: &Event,
        news: News,
        job: JobId,
        fate: &Fate,
        kind: FailureKind,
    ) -> bool {
        match kind {
            FailureKind::BadValue | FailureKind::ModelFailed => news == News::GaveUp(job, kind),
            FailureKind::Cancelled => is_unwanted(event, job, fate),
            FailureKind::DeadlineExceeded => {
                *event == Event::DeadlineReached && fate.deadline.is_some_and(|at| at <= now)
            }
            FailureKind::WorkerLost => {
                news == News::Lost(job)
                    && fate.fruitless >= super::FRUITLESS_MAX
                    && fate.suspects < self.settings.max_attempts
            }
            FailureKind::Quarantined => self.is_quarantined(now, &fate.model, &fate.parameters),
            FailureKind::Draining => self.ends.is_some_and(|at| at <= now),
            FailureKind::UnknownModel => !self.offered.contains(&fate.model),
            FailureKind::Stopped
            | FailureKind::ModelMissing
            | FailureKind::ModelUnusable
            | FailureKind::ModelUnread
            | FailureKind::LoadRefused
            | FailureKind::ModelBroken => self.has_trouble(now, &fate.model, kind),
            FailureKind::MemoryExhausted | FailureKind::NeverFits => true,
            FailureKind::QueueFull
            | FailureKind::NotPermitted
            | FailureKind::NoSuchName
            | FailureKind::Internal => false,
        }
    }

    pub(super) fn has_trouble(&self, now: Moment, model: &str, kind: FailureKind) -> bool {
        let none = Troubles::default();
        let troubles = self.troubles.get(model).unwrap_or(&none);
        let within = |at: Option<Moment>, span| at.is_some_and(|at| now <= at + span);
        match kind {
            FailureKind::Stopped => troubles.stopped,
            FailureKind::ModelMissing => {
                let missing = |spec: &ModelSpec| matches!(spec.files, Files::Missing(_));
                self.specs.get(model).is_some_and(missing)
            }
            FailureKind::ModelUnusable => {
                let broken = |spec: &ModelSpec| matches!(spec.files, Files::Broken(_));
                self.specs.get(model).is_some_and(broken)
                    || within(troubles.last_load_failure, COOLING_MAX)
            }
            FailureKind::ModelUnread => {
                let unread = |spec: &ModelSpec| spec.files == Files::Unread;
                self.specs.get(model).is_some_and(unread)
            }
            FailureKind::LoadRefused => within(troubles.last_load_failure, COOLING_MAX),
            _ => {
                troubles.in_a_row >= self.settings.breaker_failures
                    && within(troubles.last_failure, self.settings.breaker_open)
            }
        }
    }
}

pub(super) fn is_its_picture(now: Moment, fate: &Fate, facts: &PictureFacts) -> bool {
    let wanted = &fate.parameters;
    facts.seed == wanted.seed
        && facts.size == wanted.size
        && facts.steps == wanted.steps
        && facts.attempts == fate.attempts
        && facts.resume_step == fate.resume_step
        && facts.worker.model.as_str() == fate.model
        && fate.deadline.is_none_or(|at| now <= at + LATE_MAX)
}

/// Somebody said, or showed by leaving, that the job is not wanted.
pub(super) fn is_unwanted(event: &Event, job: JobId, fate: &Fate) -> bool {
    match event {
        Event::RequestCancelled { job: meant, .. } => *meant == job,
        Event::ClientGone { ticket } => *ticket == fate.ticket && !fate.detached,
        _ => false,
    }
}
