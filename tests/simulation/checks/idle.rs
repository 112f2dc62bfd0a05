//! Idle workers leave one per idle time, least recently used first, down to the minimum.

use std::collections::BTreeMap;

use ipc_protocol::failure::FailureKind;
use ipc_protocol::ids::{Generation, ModelKey};
use pool::{Action, Event, Moment, Notice, Outcome, StopReason};

use super::CheckResult;
use crate::observed::ObservedPool;

#[derive(Debug, Default)]
pub(super) struct IdleModels {
    since: BTreeMap<ModelKey, Moment>,
}

impl IdleModels {
    pub(super) fn check(
        &mut self,
        observed: &ObservedPool,
        now: Moment,
        action: &Action,
    ) -> CheckResult {
        match action {
            Action::Start(start) => {
                self.since.remove(&start.model);
                Ok(())
            }
            Action::Tell(Notice::Stopping {
                worker,
                name,
                why: StopReason::Idle,
            }) => {
                let since = self.since.insert(name.model.clone(), now);
                self.check_leave(observed, now, *worker, &name.model, since)
            }
            _ => Ok(()),
        }
    }

    fn check_leave(
        &self,
        observed: &ObservedPool,
        now: Moment,
        worker: Generation,
        key: &ModelKey,
        since: Option<Moment>,
    ) -> CheckResult {
        if since.is_none_or(|since| now < since + observed.settings.idle) {
            return Err(format!(
                "{key} is idle since {since:?} and loses a worker at {now}"
            ));
        }
        let left = |id: Generation| {
            let process = &observed.workers[&id];
            process.stop_steps.map_or(process.since, |stops| stops.from)
        };
        let floor = observed.floor(&observed.models[key]);
        let stay: Vec<Generation> = observed.live(key).map(|(id, _)| id).collect();
        if stay.len() < floor {
            return Err(format!(
                "{key} keeps {} workers, {floor} should stay",
                stay.len()
            ));
        }
        match stay
            .iter()
            .find(|&&id| (left(id), id) < (left(worker), worker))
        {
            Some(other) => Err(format!(
                "worker {worker} leaves, {other} is idle for longer"
            )),
            None => Ok(()),
        }
    }

    pub(super) fn check_event(
        &mut self,
        observed: &ObservedPool,
        now: Moment,
        event: &Event,
    ) -> CheckResult {
        for (key, model) in &observed.models {
            let all = observed.live(key).all(|(_, process)| process.is_idle());
            let idle = all
                && observed.live(key).next().is_some()
                && observed.waiting(key).next().is_none();
            if !idle {
                self.since.remove(key);
                continue;
            }
            let since = *self.since.entry(key.clone()).or_insert(now);
            let spare = observed.live(key).count() > observed.floor(model);
            if spare && *event == Event::DeadlineReached && since + observed.settings.idle < now {
                return Err(format!("{key} is idle since {since} and nobody leaves"));
            }
        }
        Ok(())
    }
}

/// Returns the model of a job whose client has left. A job that was cancelled while it waited for files had no load.
pub(super) fn unwanted(observed: &ObservedPool, action: &Action) -> Option<ModelKey> {
    let Action::Answer {
        job,
        outcome: Outcome::Failure(failure),
    } = action
    else {
        return None;
    };
    let given_up = [FailureKind::Cancelled, FailureKind::DeadlineExceeded];
    let record = given_up.contains(&failure.kind).then_some(job)?;
    let record = observed.jobs.get(record)?;
    record.cancelled.is_none().then(|| record.model.clone())
}

/// Checks that one load continues for jobs whose clients have left, and no second.
pub(super) fn check_loads(
    observed: &ObservedPool,
    unwanted: Vec<ModelKey>,
    actions: &[Action],
) -> CheckResult {
    // The last that waited may have gone to a worker after the loads were looked at.
    let runs = actions
        .iter()
        .any(|action| matches!(action, Action::Run(_)));
    for key in unwanted.into_iter().filter(|_| !runs) {
        let (live, floor) = (
            observed.live(&key).count(),
            observed.floor(&observed.models[&key]),
        );
        let coming = observed
            .live(&key)
            .filter(|(_, process)| process.is_coming());
        if coming.count() > 1 && live > floor && observed.waiting(&key).next().is_none() {
            return Err(format!(
                "{key} loads twice and nobody waits for it any more"
            ));
        }
    }
    Ok(())
}
