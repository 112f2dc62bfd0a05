//! Workers start for a reason and within the limits; actions name workers that are there.

use ipc_protocol::ids::Generation;
use pool::{Action, Event, Moment, Start, StartReason};

use super::CheckResult;
use crate::observed::{ObservedPool, ProcessRecord, ProcessState};

pub(super) fn check(observed: &ObservedPool, now: Moment, action: &Action) -> CheckResult {
    match action {
        Action::Start(start) => check_start(observed, now, start),
        Action::Cancel { worker, job } => match observed.workers.get(worker) {
            Some(process) if process.state == ProcessState::Busy(*job) => Ok(()),
            process => Err(format!("job {job} is cancelled at {process:?}")),
        },
        Action::AskToLeave { worker }
        | Action::Terminate { worker }
        | Action::Kill { worker }
        | Action::Measure { worker } => match observed.workers.contains_key(worker) {
            true => Ok(()),
            false => Err(format!("{action:?} for a worker that is gone")),
        },
        _ => Ok(()),
    }
}

fn check_start(observed: &ObservedPool, now: Moment, start: &Start) -> CheckResult {
    let key = &start.model;
    if start.worker <= observed.last_worker {
        return Err(format!("generation {} is not new", start.worker));
    }
    let all = || observed.workers_of(key).map(|(_, process)| process);
    let most = observed.most(&observed.models[key]);
    if all().count() >= most {
        return Err(format!("worker {} of {key} of {most}", all().count() + 1));
    }
    let oldest = observed.waiting(key).map(|(_, record)| record.since).min();
    match start.reason {
        StartReason::Growth => {
            let free = |process: &ProcessRecord| process.is_idle() || process.is_coming();
            let due = oldest.is_some_and(|since| since + observed.settings.grow_after <= now);
            match all().any(free) || !due {
                true => Err(format!(
                    "{key} grows too early, its jobs wait since {oldest:?}"
                )),
                false => Ok(()),
            }
        }
        StartReason::ColdStart | StartReason::Replacement | StartReason::Constraint
            if oldest.is_none() =>
        {
            Err(format!("{:?} of {key} without a job", start.reason))
        }
        StartReason::ColdStart => {
            let live = observed.live(key).count();
            match live >= observed.settings.cold_start_workers.max(1) as usize {
                true => Err(format!("a cold start of {key} beside {live} workers")),
                false => Ok(()),
            }
        }
        // `floors` knows when a model keeps a worker.
        StartReason::Replacement | StartReason::Constraint | StartReason::Floor => Ok(()),
    }
}

/// A message of a reaped worker changes nothing, except that time has passed.
pub(super) fn check_late_message(
    observed: &ObservedPool,
    event: &Event,
    actions: &[Action],
) -> CheckResult {
    let reaped =
        |id: &Generation| *id <= observed.last_worker && !observed.workers.contains_key(id);
    let started = |action: &&Action| matches!(action, Action::Start(_));
    let others = actions.iter().filter(|action| !started(action)).count();
    match event.said_by().filter(reaped) {
        Some(from) if others > 0 => Err(format!(
            "a message of reaped worker {from} caused {actions:?}"
        )),
        _ => Ok(()),
    }
}
