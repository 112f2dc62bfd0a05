//! A job that waited long enough keeps its room, on one device and on several.
//!
//! On one device no younger job takes the room of one that waited for `max_overtake`. A job for a device without workers
//! is not overtaken without end by younger jobs that run on its model's workers elsewhere.

use std::collections::BTreeMap;

use ipc_protocol::ids::{Device, DeviceConstraint, JobId, ModelKey};
use pool::{Action, Event, Moment, Run};

use super::CheckResult;
use super::failures::ModelFailures;
use super::standing::ModelStanding;
use crate::observed::ObservedPool;

#[derive(Debug, Default)]
pub(super) struct JobTurns {
    /// Stops, changed models and drains are other reasons not to start a worker.
    disturbed: bool,
    /// How many younger jobs ran on workers elsewhere, by job.
    overtaken: BTreeMap<JobId, u32>,
    /// The oldest waiting job of each model before the present event.
    before: BTreeMap<ModelKey, JobId>,
}

impl JobTurns {
    /// Looks at who waits before an event and its actions change it.
    pub(super) fn before(&mut self, observed: &ObservedPool, event: &Event, actions: &[Action]) {
        self.disturbed |= matches!(
            event,
            Event::ModelsChanged { .. }
                | Event::SettingsChanged { .. }
                | Event::StopRequested { .. }
                | Event::RestartRequested { .. }
                | Event::DrainRequested { .. }
        );
        self.before.clear();
        if self.applies(observed) && actions.iter().any(|a| matches!(a, Action::Start(_))) {
            self.before = oldest(observed);
        }
    }

    fn applies(&self, observed: &ObservedPool) -> bool {
        !self.disturbed && !observed.settings.fifo
    }

    pub(super) fn check(
        &mut self,
        observed: &ObservedPool,
        failures: &ModelFailures,
        now: Moment,
        action: &Action,
    ) -> CheckResult {
        match action {
            Action::Run(run) if self.applies(observed) => {
                self.check_run(observed, failures, now, run)
            }
            Action::Answer { job, .. } => {
                self.overtaken.remove(job);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Counts a run for the older jobs of its model that no worker can take and for which there is no place for one
    /// that could.
    fn check_run(
        &mut self,
        observed: &ObservedPool,
        failures: &ModelFailures,
        now: Moment,
        run: &Run,
    ) -> CheckResult {
        let Some(process) = observed.workers.get(&run.worker) else {
            return Ok(());
        };
        let key = &process.name.model;
        let full = observed.workers_of(key).count() >= observed.most(&observed.models[key]);
        if !full || !starts(observed, failures, now, key) {
            return Ok(());
        }
        let served: Vec<Device> = observed
            .live(key)
            .map(|(_, process)| process.device)
            .collect();
        for (id, record) in observed.waiting(key).take_while(|(id, _)| *id < run.job) {
            let Some(DeviceConstraint::On(device)) = record.wish else {
                continue;
            };
            if served.contains(&device) {
                continue;
            }
            let count = self.overtaken.entry(id).or_default();
            *count += 1;
            if *count > observed.settings.max_overtakes {
                return Err(format!(
                    "{count} younger jobs of its model ran before job {id} for {device}"
                ));
            }
        }
        Ok(())
    }

    /// No start takes the room of an older job that waited for long enough and has no worker to wait for. On one device
    /// the room that one model lacks is the room that another takes.
    pub(super) fn check_event(
        &self,
        observed: &ObservedPool,
        failures: &ModelFailures,
        now: Moment,
        actions: &[Action],
    ) -> CheckResult {
        if observed.devices.len() != 1 || !self.applies(observed) {
            return Ok(());
        }
        let starts_of = actions.iter().filter_map(|action| match action {
            Action::Start(start) => Some(&start.model),
            _ => None,
        });
        let mut starting = starts_of.peekable();
        if starting.peek().is_none() {
            return Ok(());
        }
        let after = oldest(observed);
        let due = after.iter().filter(|(key, id)| {
            starts(observed, failures, now, key)
                && observed.workers_of(key).next().is_none()
                && observed.jobs[id].accepted + observed.settings.max_overtake <= now
        });
        let Some((due_model, due)) = due.min_by_key(|(_, id)| **id) else {
            return Ok(());
        };
        for key in starting {
            let own = [self.before.get(key), after.get(key)];
            let own = own.into_iter().flatten().min();
            if own.is_none_or(|own| own > due) {
                return Err(format!(
                    "{key} starts for {own:?}, and job {due} of {due_model} waits since {}",
                    observed.jobs[due].accepted
                ));
            }
        }
        Ok(())
    }
}

/// Whether failures let a model start workers now.
fn starts(observed: &ObservedPool, failures: &ModelFailures, now: Moment, key: &ModelKey) -> bool {
    matches!(
        failures.standing(observed, key, now),
        ModelStanding::Well | ModelStanding::Probing
    )
}

/// The oldest waiting job of each model.
fn oldest(observed: &ObservedPool) -> BTreeMap<ModelKey, JobId> {
    let first = |key: &ModelKey| Some((key.clone(), observed.waiting(key).next()?.0));
    observed.models.keys().filter_map(first).collect()
}
