//! How a job may end, by what happened to it and to its model.

use std::time::Duration;

use ipc_protocol::failure::FailureKind;
use ipc_protocol::ids::{JobId, ModelKey};
use pool::{Event, Files, Moment, PictureFacts};

use super::Oracle;
use crate::checks::{ModelFailures, ModelStanding};
use crate::observed::{Consequence, JobRecord, ObservedPool};

/// A picture may come this long after its deadline: a real clock is read late.
const LATE_MAX: Duration = Duration::from_secs(1);

impl Oracle {
    pub(super) fn may_fail(
        &self,
        observed: &ObservedPool,
        failures: &ModelFailures,
        (now, event): (Moment, &Event),
        job: JobId,
        record: &JobRecord,
        kind: FailureKind,
    ) -> bool {
        match kind {
            FailureKind::BadValue | FailureKind::ModelFailed => {
                observed.consequence == Consequence::GaveUp(job, kind)
            }
            FailureKind::Cancelled => record.cancelled.is_some() || is_unwanted(event, job, record),
            FailureKind::DeadlineExceeded => {
                *event == Event::DeadlineReached && record.deadline.is_some_and(|at| at <= now)
            }
            FailureKind::WorkerLost => {
                observed.consequence.lost_job() == Some(job)
                    && super::is_fruitless(now, record)
                    && !super::is_guilty(observed, record)
            }
            FailureKind::Quarantined => {
                self.is_quarantined(observed, now, &record.model, &record.parameters)
            }
            FailureKind::Draining => observed.ends.is_some_and(|at| at <= now),
            FailureKind::LoadRefused if failures.gave_up(&record.model) => true,
            FailureKind::Stopped
            | FailureKind::ModelMissing
            | FailureKind::ModelUnusable
            | FailureKind::LoadRefused => has_trouble(observed, failures, now, &record.model, kind),
            // `refusals` knows what fits.
            FailureKind::MemoryExhausted | FailureKind::NeverFits => true,
            // A job waits while files are looked at, and for the next try of a model that failed too often. It is drawn
            // if its model is removed.
            FailureKind::ModelUnread
            | FailureKind::ModelBroken
            | FailureKind::UnknownModel
            | FailureKind::QueueFull
            | FailureKind::QuotaExceeded
            | FailureKind::NotKept
            | FailureKind::NotPermitted
            | FailureKind::NoSuchName
            | FailureKind::PictureGone
            | FailureKind::Internal => false,
        }
    }
}

/// Whether the state of a model is what a failure of this kind says.
pub(crate) fn has_trouble(
    observed: &ObservedPool,
    failures: &ModelFailures,
    now: Moment,
    key: &ModelKey,
    kind: FailureKind,
) -> bool {
    let model = &observed.models[key];
    let files = &model.spec.files;
    let standing = failures.standing(observed, key, now);
    let cooling = matches!(standing, ModelStanding::Cooling(_));
    let to_mend = cooling && failures.is_to_mend(key);
    match kind {
        FailureKind::Stopped => model.stopped,
        FailureKind::ModelMissing => matches!(files, Files::Missing(_)),
        FailureKind::ModelUnusable => match files {
            Files::Broken(_) => true,
            // Nobody looks at them any more.
            Files::Unread => !model.offered,
            Files::Here { .. } | Files::Missing(_) => to_mend,
        },
        FailureKind::ModelUnread => *files == Files::Unread,
        FailureKind::LoadRefused => cooling && !to_mend,
        FailureKind::ModelBroken => matches!(standing, ModelStanding::Broken(..)),
        _ => false,
    }
}

pub(super) fn is_its_picture(now: Moment, record: &JobRecord, facts: &PictureFacts) -> bool {
    let wanted = &record.parameters;
    facts.seed == wanted.seed
        && facts.size == wanted.size
        && facts.steps == wanted.steps
        && facts.attempts == record.attempts
        && facts.resume_step == record.resume_step
        && facts.worker.model == record.model
        && facts.queue + facts.load <= now.since(record.accepted)
        && record.deadline.is_none_or(|at| now <= at + LATE_MAX)
}

/// The client cancelled the job, or has gone away from it.
pub(super) fn is_unwanted(event: &Event, job: JobId, record: &JobRecord) -> bool {
    match event {
        Event::RequestCancelled { job: meant, .. } => *meant == job,
        Event::ClientGone { ticket } => *ticket == record.ticket && !record.detached,
        _ => false,
    }
}
