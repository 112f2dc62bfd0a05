//! The outcomes that a request may have, and when an outcome is due.
//!
//! The oracle judges from the request's own words and from what happened to its job. It knows nothing of queues, devices
//! or memory.
//!
//! - `request` is what a request may ask for
//! - `outcome` is how a job may end
//! - `quarantine` is which requests are kept out

mod outcome;
mod quarantine;
mod request;

use std::time::Duration;

use ipc_protocol::ids::JobId;
use pool::{AcceptedJobs, Action, Event, Moment, Notice, Outcome, Parameters};

use crate::checks::{CheckResult, ModelFailures};
use crate::observed::{Consequence, JobRecord, ObservedPool};
pub(crate) use outcome::has_trouble;
use quarantine::{ExpectedQuarantine, fingerprint};
pub(crate) use request::{invalid_fields, jobs_per_hour, most_images, parameters};

/// Attempts in a row without a salvaged step after which a job is not tried again.
const FRUITLESS_MAX: u32 = 16;
/// The same for attempts whose worker went silent.
const SILENT_MAX: u32 = 5;
/// The time of such attempts after which the next one is the last.
const FRUITLESS_TIME_MAX: Duration = Duration::from_secs(4 * 3600);
/// How often a job may run out of memory.
const MEMORY_MAX: u32 = 2;

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    quarantine: ExpectedQuarantine,
}

impl Oracle {
    /// Notes the consequences of an event, after it changed the records.
    pub(crate) fn event(&mut self, observed: &ObservedPool, now: Moment, event: &Event) {
        if let Event::QuarantineReleased { digest, .. } = event {
            let lasts = observed.settings.quarantine;
            self.quarantine.release(now, lasts, digest.as_deref());
        }
        let lost = observed.consequence.lost_job();
        if let Some(record) = lost.and_then(|job| observed.jobs.get(&job))
            && is_guilty(observed, record)
        {
            let fingerprint = fingerprint(observed, &record.model, &record.parameters);
            self.quarantine.insert(now, fingerprint);
        }
    }

    /// Whether a reply or an answer is allowed.
    pub(crate) fn check(
        &mut self,
        observed: &ObservedPool,
        failures: &ModelFailures,
        now: Moment,
        event: &Event,
        action: &Action,
    ) -> CheckResult {
        match action {
            Action::Accept(accepted) => self.check_accept(observed, (now, event), accepted),
            Action::Tell(Notice::Quarantined { job, digest, .. }) => match observed.jobs.get(job) {
                Some(record) => {
                    let fingerprint = fingerprint(observed, &record.model, &record.parameters);
                    self.quarantine.named(now, fingerprint, digest)
                }
                None => Err(format!("job {job} is put in quarantine and has its answer")),
            },
            Action::Acknowledge {
                ticket,
                lines,
                success,
            } => {
                let lasts = observed.settings.quarantine;
                self.quarantine
                    .check_answer((now, lasts), event, *ticket, lines, *success)
            }
            Action::Answer { job, outcome } => match observed.jobs.get(job) {
                Some(record) => {
                    self.check_answer(observed, failures, (now, event), *job, record, outcome)
                }
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn check_accept(
        &self,
        observed: &ObservedPool,
        (now, event): (Moment, &Event),
        accepted: &AcceptedJobs,
    ) -> CheckResult {
        let Some(asked) = observed.judged(event, accepted.ticket) else {
            return Ok(());
        };
        let key = observed.model_for(asked);
        let parameters = key.filter(|&key| *key == accepted.model).and_then(|key| {
            let spec = &observed.models[key].spec;
            parameters(observed, spec, &asked.request, asked.entropy)
        });
        let Some(parameters) = parameters else {
            return Err(format!("accepted a request that is invalid: {asked:?}"));
        };
        if self.is_quarantined(observed, now, &accepted.model, &parameters) {
            return Err(format!(
                "accepted a request that is in quarantine: {asked:?}"
            ));
        }
        let same = accepted.size == parameters.size
            && accepted.steps == parameters.steps
            && accepted.guidance == parameters.guidance
            && accepted.seed == parameters.seed;
        match same {
            true => Ok(()),
            false => Err(format!("{accepted:?} should have {parameters:?}")),
        }
    }

    fn check_answer(
        &self,
        observed: &ObservedPool,
        failures: &ModelFailures,
        (now, event): (Moment, &Event),
        job: JobId,
        record: &JobRecord,
        outcome: &Outcome,
    ) -> CheckResult {
        let allowed = match outcome {
            Outcome::Picture(facts) => {
                observed.consequence == Consequence::Finished(job)
                    && outcome::is_its_picture(now, record, facts)
            }
            Outcome::Failure(failure) => {
                self.may_fail(observed, failures, (now, event), job, record, failure.kind)
            }
        };
        match allowed {
            true => Ok(()),
            false => Err(format!(
                "job {job} may not end with {outcome:?}: {record:?}"
            )),
        }
    }

    pub(crate) fn is_quarantined(
        &self,
        observed: &ObservedPool,
        now: Moment,
        model: &ipc_protocol::ids::ModelKey,
        parameters: &Parameters,
    ) -> bool {
        let fingerprint = fingerprint(observed, model, parameters);
        let lasts = observed.settings.quarantine;
        self.quarantine.contains(now, lasts, &fingerprint)
    }

    /// Every answer that was due with an event was given.
    pub(crate) fn check_event(
        &self,
        observed: &ObservedPool,
        now: Moment,
        event: &Event,
    ) -> CheckResult {
        let mut jobs = observed.jobs.iter();
        let due = match event {
            Event::DeadlineReached => {
                let over = |record: &JobRecord| record.deadline.is_some_and(|at| at <= now);
                jobs.find(|(_, record)| over(record)).map(|(&job, _)| job)
            }
            Event::RequestCancelled { job, .. } => Some(*job),
            Event::ClientGone { .. } => jobs
                .find(|(job, record)| outcome::is_unwanted(event, **job, record))
                .map(|(&job, _)| job),
            _ => match &observed.consequence {
                Consequence::Finished(job) | Consequence::GaveUp(job, _) => Some(*job),
                consequence => consequence.lost_job().filter(|job| {
                    let record = observed.jobs.get(job);
                    record.is_some_and(|record| is_given_up(observed, now, record))
                }),
            },
        };
        match due.filter(|job| observed.jobs.contains_key(job)) {
            Some(job) => Err(format!("job {job} has no answer after {event:?}")),
            None => Ok(()),
        }
    }
}

/// As many workers crashed at one step of the job, or of others that ask for the same, as a request may bring down.
fn is_guilty(observed: &ObservedPool, record: &JobRecord) -> bool {
    let Some(last) = record.losses.last().filter(|last| last.accuses) else {
        return false;
    };
    let of = |job: &JobRecord| fingerprint(observed, &job.model, &job.parameters);
    let own = of(record);
    let alike = observed.jobs.values().filter(|job| of(job) == own);
    let deaths: usize = alike.map(|job| job.accusing(last.step).count()).sum();
    deaths >= observed.settings.max_attempts as usize
}

/// The job had as many attempts in a row without a new step, or for as long, as a job may have.
fn is_fruitless(now: Moment, record: &JobRecord) -> bool {
    let since = record.fruitless_since.unwrap_or(now);
    record.fruitless >= FRUITLESS_MAX
        || record.silences >= SILENT_MAX
        || now.since(since) >= FRUITLESS_TIME_MAX
}

/// The job gets no other attempt.
fn is_given_up(observed: &ObservedPool, now: Moment, record: &JobRecord) -> bool {
    is_guilty(observed, record) || record.out_of_memory >= MEMORY_MAX || is_fruitless(now, record)
}
