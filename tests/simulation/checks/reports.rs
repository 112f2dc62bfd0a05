//! Clients hear about every place, load, start and step, and only what is true.

use crate::observed::span;
use ipc_protocol::ids::JobId;
use pool::{Action, Moment, Notice, Outcome, Progress};

use super::CheckResult;
use crate::observed::{Consequence, JobRecord, ObservedPool};

/// The number of waiting jobs that get reports of a load.
const TOLD: usize = 8;

/// A report says what is so.
pub(super) fn check(observed: &ObservedPool, action: &Action) -> CheckResult {
    if let Action::Tell(Notice::PlacedAgain {
        job,
        resume_step,
        attempt,
    }) = action
    {
        let right =
            |record: &JobRecord| *resume_step == record.step && *attempt == record.attempts + 1;
        return match observed.jobs.get(job).is_some_and(right) {
            true => Ok(()),
            false => Err(format!("{action:?}: {:?}", observed.jobs.get(job))),
        };
    }
    let Action::Report { job, progress } = action else {
        return Ok(());
    };
    let Some(record) = observed.jobs.get(job) else {
        return Ok(());
    };
    let right = match progress {
        Progress::Waiting { position, reason } => {
            record.on.is_none()
                && *position as usize == place(observed, *job)
                && (reason.contains(record.model.as_str())
                    || reason.contains("one more worker needs "))
        }
        Progress::Loading { permille } => {
            matches!(observed.consequence, Consequence::Loaded(_, now) if now == *permille)
                && record.on.is_none()
        }
        Progress::Started {
            worker,
            attempt,
            resume_step,
        } => {
            let on = record.on.and_then(|on| observed.workers.get(&on));
            on.is_some_and(|process| process.name == *worker)
                && *attempt == record.attempts
                && *resume_step == record.resume_step
        }
        Progress::Step { index, total, .. } => {
            observed.consequence == Consequence::Stepped(*job, *index)
                && *total == record.parameters.steps
        }
    };
    match right {
        true => Ok(()),
        false => Err(format!(
            "job {job} is told {progress:?}, place {}",
            place(observed, *job)
        )),
    }
}

/// Its place among those that wait for its model, from 1.
pub(super) fn place(observed: &ObservedPool, job: JobId) -> usize {
    let Some(record) = observed.jobs.get(&job) else {
        return 0;
    };
    observed
        .waiting(&record.model)
        .take_while(|(id, _)| *id < job)
        .count()
        + 1
}

/// Checks that every job that the event or its actions concern got its report.
pub(super) fn check_event(observed: &ObservedPool, now: Moment, actions: &[Action]) -> CheckResult {
    check_news(observed, now, actions)?;
    for action in actions {
        match action {
            Action::Run(run) => {
                let started = |p: &Progress| matches!(p, Progress::Started { .. });
                if !is_told(actions, run.job, started) {
                    return Err(format!("job {} runs and is not told so", run.job));
                }
                let ends = |action: &Action| {
                    matches!(
                        action,
                        Action::Answer {
                            outcome: Outcome::Failure(_),
                            ..
                        }
                    )
                };
                if actions.iter().any(ends) {
                    continue;
                }
                let model = observed
                    .workers
                    .get(&run.worker)
                    .map(|process| &process.name.model);
                let next = model.and_then(|model| observed.waiting(model).next());
                let waits = |p: &Progress| matches!(p, Progress::Waiting { .. });
                if let Some((next, _)) = next.filter(|(next, _)| !is_told(actions, *next, waits)) {
                    return Err(format!(
                        "job {} runs and job {next} is not told its place",
                        run.job
                    ));
                }
            }
            Action::Accept(accepted) => {
                for &job in &accepted.jobs {
                    let waits = |p: &Progress| matches!(p, Progress::Waiting { .. });
                    let still = observed
                        .jobs
                        .get(&job)
                        .is_some_and(|record| record.on.is_none());
                    if still && !is_told(actions, job, waits) {
                        return Err(format!("job {job} waits and is not told its place"));
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_news(observed: &ObservedPool, now: Moment, actions: &[Action]) -> CheckResult {
    match observed.consequence {
        Consequence::Loaded(worker, permille) => {
            let Some(process) = observed.workers.get(&worker) else {
                return Ok(());
            };
            let model = &process.name.model;
            if observed
                .live(model)
                .any(|(_, process)| process.is_resident())
            {
                return Ok(());
            }
            let loads = |p: &Progress| *p == Progress::Loading { permille };
            match observed
                .waiting(model)
                .take(TOLD)
                .find(|(id, _)| !is_told(actions, *id, loads))
            {
                Some((job, _)) => Err(format!("job {job} is not told that {model} loads")),
                None => Ok(()),
            }
        }
        Consequence::Stepped(job, step) => {
            let Some(record) = observed.jobs.get(&job) else {
                return Ok(());
            };
            let elapsed = span(now, record.began);
            let step = Progress::Step {
                index: step,
                total: record.parameters.steps,
                elapsed,
            };
            match is_told(actions, job, |p| *p == step) {
                true => Ok(()),
                false => Err(format!("job {job} is not told of {step:?}")),
            }
        }
        Consequence::None
        | Consequence::ImpossibleStep(_)
        | Consequence::Finished(_)
        | Consequence::GaveUp(..)
        | Consequence::Overflowed(..)
        | Consequence::OutOfMemory(_)
        | Consequence::Ended(_) => Ok(()),
    }
}

fn is_told(actions: &[Action], whom: JobId, what: impl Fn(&Progress) -> bool) -> bool {
    actions.iter().any(|action| match action {
        Action::Report { job, progress } => *job == whom && what(progress),
        _ => false,
    })
}
