//! Workers are stopped for a true reason, in the steps of the stop plan, and in time.

use crate::observed::span;
use std::time::Duration;

use ipc_protocol::ids::Generation;
use pool::{Action, Event, Moment, Notice, StopReason};

use super::memory::outgrew_most;
use super::patience::{evidence, is_unasked, longest, longest_unwinding, shortest};
use super::{CheckResult, WorldClock};
use crate::observed::{
    Consequence, EndedProcess, ObservedPool, ProcessRecord, ProcessState, WorkerEnd,
};

pub(super) fn check(
    observed: &ObservedPool,
    now: Moment,
    event: &Event,
    action: &Action,
) -> CheckResult {
    match action {
        Action::Terminate { worker } | Action::Kill { worker } => {
            next_step(observed, now, *worker, action)
        }
        Action::Tell(Notice::Stopping { worker, why, name }) => {
            let Some(process) = observed.workers.get(worker) else {
                return Err(format!("{name} is stopped and is gone"));
            };
            // The first reason stays.
            let why = process.stop_reason.unwrap_or(*why);
            match is_so(observed, now, event, process, why) {
                true => Ok(()),
                false => Err(format!("{name} leaves ({}) and is {process:?}", why.word())),
            }
        }
        Action::Tell(Notice::NotReaped {
            worker,
            since,
            name,
        }) => {
            let stops = observed
                .workers
                .get(worker)
                .and_then(|process| process.stop_steps);
            match stops.and_then(|stops| stops.killed) {
                Some(killed) if span(now, killed) == *since => Ok(()),
                killed => Err(format!(
                    "{name} is not reaped since {since:?}, SIGKILL: {killed:?}"
                )),
            }
        }
        Action::Tell(Notice::Unreclaimed { worker, amount, .. }) => {
            let settling = observed.settling.get(worker);
            match settling.filter(|settling| settling.until <= now && settling.part == *amount) {
                Some(_) => Ok(()),
                None => Err(format!("{amount} of worker {worker} are given up too soon")),
            }
        }
        Action::Tell(Notice::LoadCooling { message, model, .. }) => {
            let Consequence::Ended(ended) = &observed.consequence else {
                return Ok(());
            };
            let reported = &ended.process.load_failure;
            let right = reported.as_ref().is_none_or(|reported| reported == message);
            match right {
                true => Ok(()),
                false => Err(format!(
                    "{model} cannot load: {message}, the worker reported {reported:?}"
                )),
            }
        }
        Action::Run(run)
            if observed
                .workers
                .get(&run.worker)
                .is_some_and(|process| process.outdated) =>
        {
            Err(format!(
                "job {} for worker {}, whose model changed",
                run.job, run.worker
            ))
        }
        _ => Ok(()),
    }
}

fn next_step(
    observed: &ObservedPool,
    now: Moment,
    worker: Generation,
    action: &Action,
) -> CheckResult {
    let patience = &observed.settings.patience;
    let stops = observed
        .workers
        .get(&worker)
        .and_then(|process| process.stop_steps);
    let Some(stops) = stops else {
        // When the drain time is over nothing is left for a request to leave, nor has memory time for one.
        let drained = observed.ends.is_some_and(|end| end <= now) && observed.jobs.is_empty();
        let overflows = matches!(observed.consequence, Consequence::Overflowed(..));
        return match (action, drained || overflows) {
            (Action::Terminate { .. }, true) => Ok(()),
            _ => Err(format!("{action:?}, which was not asked first")),
        };
    };
    let kills = matches!(action, Action::Kill { .. });
    let (wait, kill) = match stops.steps {
        1 => (patience.ask, false),
        2 => (patience.terminate, true),
        _ => (patience.kill, true),
    };
    match kill == kills && stops.last + wait <= now {
        true => Ok(()),
        false => Err(format!("{action:?} after {stops:?}")),
    }
}

fn is_so(
    observed: &ObservedPool,
    now: Moment,
    event: &Event,
    process: &ProcessRecord,
    why: StopReason,
) -> bool {
    let patience = &observed.settings.patience;
    // The command to leave came just before its reason.
    let alone = process.job().is_none();
    let waits = observed.waiting(&process.name.model).next().is_some();
    match why {
        StopReason::NoHello => {
            let shown = evidence(process);
            process.progressed + patience.hello <= now
                || shown.had + Duration::from_millis(1) >= patience.busy_hello
                || shown.still.is_some_and(|still| still >= patience.still)
        }
        StopReason::Silent => process.heard + patience.heartbeat <= now,
        StopReason::Stuck => {
            let (limits, shown) = (shortest(observed, process), evidence(process));
            process.progressed + limits.believed <= now && !shown.wants
                || shown.had + Duration::from_millis(1) >= limits.busy
                || shown.still.is_some_and(|still| still >= limits.still)
        }
        StopReason::Starved => {
            process.progressed + shortest(observed, process).longest <= now
                && evidence(process).wants
        }
        StopReason::IgnoredCancel => {
            let since = process.stop_steps.map_or(now, |stops| stops.from);
            since + patience.step <= now
        }
        StopReason::Protocol => {
            let accused = match event {
                Event::WorkerBrokeProtocol { worker, .. } => Some(*worker),
                _ => None,
            };
            match observed.consequence {
                Consequence::ImpossibleStep(worker) => {
                    observed.workers.get(&worker) == Some(process)
                }
                _ => accused.and_then(|worker| observed.workers.get(&worker)) == Some(process),
            }
        }
        StopReason::Outgrown => outgrew_most(observed, process),
        StopReason::Outdated => alone && (process.outdated || is_removed(observed, process)),
        // Worlds have no yields.
        StopReason::Yielded => false,
        StopReason::Abandoned => {
            // One of several, so that the next who asks finds one.
            let another = observed
                .live(&process.name.model)
                .any(|(_, other)| other.is_coming());
            process.was_loading && !waits && another
        }
        StopReason::Evicted | StopReason::Idle => alone,
        StopReason::Operator => matches!(
            event,
            Event::StopRequested { .. } | Event::RestartRequested { .. }
        ),
        StopReason::Scaled => {
            matches!(event, Event::Scaled { .. } | Event::EvictRequested { .. }) && alone
        }
        StopReason::Drain => observed.ends.is_some() && observed.jobs.is_empty(),
    }
}

/// Checks that the required effects of an event happened.
pub(super) fn check_event(
    observed: &ObservedPool,
    clock: WorldClock,
    now: Moment,
    event: &Event,
    actions: &[Action],
) -> CheckResult {
    check_gone(observed, event, actions)?;
    if let Event::WorkerBrokeProtocol { worker, .. } = event
        && observed
            .workers
            .get(worker)
            .is_some_and(ProcessRecord::is_live)
    {
        return Err(format!("worker {worker} broke the protocol and stays"));
    }
    if let Consequence::ImpossibleStep(worker) = observed.consequence
        && observed
            .workers
            .get(&worker)
            .is_some_and(ProcessRecord::is_live)
    {
        return Err(format!(
            "worker {worker} named a step that cannot be and stays"
        ));
    }
    let late = observed
        .settling
        .iter()
        .find(|(_, part)| !part.given_up && part.until < now);
    // A real clock is read late, and the deadline comes with a later event.
    let judged = clock == WorldClock::Virtual || *event == Event::DeadlineReached;
    if let Some((worker, _)) = late.filter(|_| judged) {
        return Err(format!(
            "the memory of worker {worker} should be told as unreclaimed"
        ));
    }
    if let Event::CpuMeasured { worker, .. } = event
        && let Some(process) = observed.workers.get(worker)
    {
        check_late(observed, now, *worker, process)?;
    }
    if *event != Event::DeadlineReached {
        return check_outdated(observed);
    }
    if observed.ends.is_some_and(|at| at <= now) && !observed.jobs.is_empty() {
        return Err(format!(
            "{} jobs are left after the pool's last moment",
            observed.jobs.len()
        ));
    }
    observed
        .workers
        .iter()
        .try_for_each(|(&worker, process)| check_late(observed, now, worker, process))
}

/// Checks that an end is reported once: as a death with its facts, or as requested.
fn check_gone(observed: &ObservedPool, event: &Event, actions: &[Action]) -> CheckResult {
    let Consequence::Ended(gone) = &observed.consequence else {
        return Ok(());
    };
    let wanted = gone.end == WorkerEnd::Wanted;
    let Event::WorkerExited { exit, .. } = event else {
        return Ok(());
    };
    let told = |action: &&Action| match action {
        Action::Tell(Notice::Left { worker, why, .. }) => {
            wanted && *worker == gone.worker && gone.process.stop_reason == Some(*why)
        }
        Action::Tell(Notice::Died {
            worker,
            exit: how,
            job,
            doing,
            ..
        }) => {
            !wanted
                && *worker == gone.worker
                && how == exit
                && *job == gone.process.job()
                && names_what(gone, doing)
        }
        _ => false,
    };
    match actions.iter().filter(told).count() {
        1 => Ok(()),
        count => Err(format!(
            "{} is gone, wanted {wanted}, and that is told {count} times",
            gone.process.name
        )),
    }
}

fn names_what(gone: &EndedProcess, doing: &str) -> bool {
    match gone.process.state {
        ProcessState::Starting => doing.contains("starting"),
        ProcessState::Loading => doing.contains(&format!("loading {}", gone.process.permille)),
        ProcessState::Idle => doing.contains("idle"),
        ProcessState::Busy(job)
        | ProcessState::Unwinding(job)
        | ProcessState::Leaving(Some(job)) => doing.contains(&format!("job {job} step ")),
        ProcessState::Leaving(None) => doing.contains("stopping"),
    }
}

/// The model of a worker is no longer offered, and no job waits for it.
fn is_removed(observed: &ObservedPool, process: &ProcessRecord) -> bool {
    let key = &process.name.model;
    !observed.models[key].offered && observed.waiting(key).next().is_none()
}

/// Checks that workers of a changed model finish their job and leave, and those of a removed one all its jobs.
fn check_outdated(observed: &ObservedPool) -> CheckResult {
    let done = |process: &&ProcessRecord| {
        (process.outdated || is_removed(observed, process))
            && (process.is_idle() || process.is_coming())
    };
    match observed.workers.values().find(done) {
        Some(process) => Err(format!(
            "{} is out of date, has nothing to do and stays",
            process.name
        )),
        None => Ok(()),
    }
}

/// Checks that no wait for a worker is too long.
fn check_late(
    observed: &ObservedPool,
    now: Moment,
    worker: Generation,
    process: &ProcessRecord,
) -> CheckResult {
    let patience = &observed.settings.patience;
    let silence = match process.state {
        ProcessState::Starting => patience.hello,
        _ => patience.heartbeat,
    };
    if process.is_live() && process.heard + silence < now {
        return Err(format!("worker {worker} is silent and stays: {process:?}"));
    }
    let waited = match process.state {
        ProcessState::Leaving(_) => {
            let Some(stops) = process.stop_steps else {
                return Ok(());
            };
            let wait = match stops.steps {
                1 => patience.ask,
                2 => patience.terminate,
                _ => patience.kill,
            };
            return match stops.last + wait <= now {
                true => Err(format!(
                    "{} is to leave since {:?} and nothing follows",
                    process.name, stops
                )),
                false => Ok(()),
            };
        }
        ProcessState::Starting => span(now, process.started) < patience.hello,
        ProcessState::Idle => true,
        ProcessState::Loading | ProcessState::Busy(_) => {
            let (limits, shown) = (longest(observed, process), evidence(process));
            // It is judged when the kernel has spoken.
            let judged = shown.judged && process.samples.last().is_some_and(|(at, _)| *at == now);
            let hangs = match shown.still {
                Some(still) => still >= limits.still,
                None => shown.had >= limits.busy + Duration::from_millis(1),
            };
            let last = if shown.wants {
                limits.longest
            } else {
                limits.believed
            };
            span(now, process.progressed) < last
                && !(judged && hangs)
                && !is_unasked(process, &limits, now)
        }
        ProcessState::Unwinding(_) => {
            span(now, process.progressed) < longest_unwinding(observed, process)
        }
    };
    match waited {
        true => Ok(()),
        false => Err(format!(
            "worker {worker} does not go on and stays, at most {:?}: {process:?}",
            longest(observed, process)
        )),
    }
}
