//! Every request gets one reply, every job runs as it was accepted and gets one answer.

use std::collections::BTreeMap;

use ipc_protocol::failure::FailureKind;
use ipc_protocol::ids::ModelKey;
use pool::{AcceptedJobs, Action, Event, Moment, Outcome, Run};

use super::CheckResult;
use super::failures::ModelFailures;
use super::standing::ModelStanding;
use crate::observed::{ModelRecord, ObservedPool};

/// Most actions of one event, besides those for each job.
const ACTIONS_MAX: usize = 400;

pub(super) fn check(
    observed: &ObservedPool,
    failures: &ModelFailures,
    (now, event): (Moment, &Event),
    action: &Action,
) -> CheckResult {
    match action {
        Action::Accept(accepted) => check_accept(observed, event, accepted),
        Action::Refuse { ticket, .. } => {
            let arrived = observed.asked.as_ref();
            let arrived = arrived.is_some_and(|asked| asked.ticket == *ticket);
            match arrived || observed.awaiting_of(*ticket).is_some() {
                true => Ok(()),
                false => Err(format!("refused {ticket:?}, which waits for no reply")),
            }
        }
        Action::Run(run) => check_run(observed, failures, now, run),
        Action::Answer { job, .. } if !observed.jobs.contains_key(job) => Err(format!(
            "job {job} is answered twice, or was never accepted"
        )),
        Action::Report { job, .. } if !observed.jobs.contains_key(job) => {
            Err(format!("a report about job {job}, which has its answer"))
        }
        Action::Exit => {
            let left = (observed.jobs.len(), observed.workers.len());
            let nobody = left == (0, 0) && observed.requests.is_empty();
            match nobody && observed.draining {
                true => Ok(()),
                false => Err(format!(
                    "exit with {} jobs, {} workers and {} requests left, draining: {}",
                    left.0,
                    left.1,
                    observed.requests.len(),
                    observed.draining
                )),
            }
        }
        _ => Ok(()),
    }
}

fn check_accept(observed: &ObservedPool, event: &Event, accepted: &AcceptedJobs) -> CheckResult {
    let Some(asked) = observed.judged(event, accepted.ticket) else {
        return Err(format!("accepted {:?}, which did not ask", accepted.ticket));
    };
    let ids = accepted.jobs.iter().map(|job| job.0);
    let new = (observed.last_job.0 + 1..).take(asked.request.count as usize);
    let reserved = observed.awaiting_of(accepted.ticket).is_some();
    let wrong = match () {
        // `files` knows the ids that were reserved.
        () if !reserved && !ids.eq(new) => "other job ids, or another number of them",
        () if observed.draining => "a pool that drains",
        () if !observed.models.contains_key(&accepted.model) => "an unknown model",
        () => return Ok(()),
    };
    Err(format!(
        "{accepted:?} is accepted for {asked:?} with {wrong}"
    ))
}

fn check_run(
    observed: &ObservedPool,
    failures: &ModelFailures,
    now: Moment,
    run: &Run,
) -> CheckResult {
    let (Some(process), Some(record)) = (
        observed.workers.get(&run.worker),
        observed.jobs.get(&run.job),
    ) else {
        return Err(format!("{run:?}, and its job or its worker is gone"));
    };
    let broken = matches!(
        failures.standing(observed, &record.model, now),
        ModelStanding::Broken(..)
    );
    let wrong = match () {
        () if !process.is_idle() => "a worker that is not idle",
        () if record.model != process.name.model => "a worker of another model",
        () if record.on.is_some() => "a job that runs already",
        () if record.attempts + 1 != run.attempt => "another number of attempts",
        () if record.step != run.resume_step => "another step to resume from",
        () if record.parameters != run.parameters => "other parameters",
        () if broken => "a model that failed too often",
        () => return Ok(()),
    };
    Err(format!("{run:?} with {wrong}: {record:?} on {process:?}"))
}

/// One event has a bounded number of actions, and a request a reply.
pub(super) fn check_event(observed: &ObservedPool, actions: &[Action]) -> CheckResult {
    if actions.len() > ACTIONS_MAX + 8 * observed.jobs.len() {
        return Err(format!("{} actions of one event", actions.len()));
    }
    match &observed.asked {
        Some(asked) => Err(format!("{:?} asked and got no reply", asked.ticket)),
        None => Ok(()),
    }
}

/// The waiting jobs after the last event: all, and of each model.
#[derive(Debug, Default)]
pub(super) struct QueueLengths {
    of: BTreeMap<ModelKey, usize>,
    all: usize,
}

impl QueueLengths {
    /// The number of waiting jobs that never ran, those of requests that wait for files among them, is bounded after
    /// those that can run at once do. A reload may lower the bound below the jobs that wait: then no further ones do.
    pub(super) fn check(&mut self, observed: &ObservedPool) -> CheckResult {
        let mut now = Self::default();
        let most = observed.settings.queue_per_model;
        for key in observed.models.keys() {
            let reserved = observed.awaiting(key).map(|waiting| waiting.jobs.len());
            let count = new_jobs(observed, key) + reserved.sum::<usize>();
            let before = self.of.get(key).copied().unwrap_or(0);
            if count > most.max(before) {
                return Err(format!("{count} jobs wait for {key}, at most {most} may"));
            }
            now.all += count;
            now.of.insert(key.clone(), count);
        }
        let most = observed.settings.queue_total;
        if now.all > most.max(self.all) {
            return Err(format!("{} jobs wait, at most {most} may", now.all));
        }
        *self = now;
        Ok(())
    }
}

fn new_jobs(observed: &ObservedPool, key: &ModelKey) -> usize {
    let waiting = observed.waiting(key);
    waiting.filter(|(_, record)| record.attempts == 0).count()
}

/// Jobs that failed. In a world without faults there are none.
#[derive(Debug, Default)]
pub(super) struct FailedJobs {
    first: Option<String>,
    /// Models that keep workers took the room of a job after it was accepted.
    crowded_out: bool,
}

impl FailedJobs {
    pub(super) fn note(&mut self, observed: &ObservedPool, action: &Action) {
        let Action::Answer {
            job,
            outcome: Outcome::Failure(failure),
        } = action
        else {
            return;
        };
        let keeps = |model: &ModelRecord| {
            observed.settings.min_workers > 0
                || model.spec.pinned
                || model.spec.min_workers.is_some()
        };
        let memory = [FailureKind::MemoryExhausted, FailureKind::NeverFits];
        self.crowded_out |= memory.contains(&failure.kind) && observed.models.values().any(keeps);
        self.first
            .get_or_insert_with(|| format!("{job}: {}", failure.message));
    }

    pub(super) fn check_none(&self) -> CheckResult {
        match &self.first {
            Some(first) if !self.crowded_out => {
                Err(format!("jobs failed in a world without faults: {first}"))
            }
            Some(_) | None => Ok(()),
        }
    }
}
