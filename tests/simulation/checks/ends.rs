//! Workers are told to leave for a reason that is so, step by step, and in time.

use crate::scene::span;
use std::time::Duration;

use ipc_protocol::ids::Generation;
use pool::{Action, Event, Moment, Notice, StopReason};

use super::patience::{evidence, is_unasked, longest, shortest};
use crate::scene::{Gone, Hand, Life, News, Scene};
use crate::shadow::Verdict;

pub(super) fn check(scene: &Scene, now: Moment, event: &Event, action: &Action) -> Verdict {
    match action {
        Action::Terminate { worker } | Action::Kill { worker } => {
            next_step(scene, now, *worker, action)
        }
        Action::Tell(Notice::Stopping { worker, why, name }) => {
            let Some(hand) = scene.workers.get(worker) else {
                return Ok(());
            };
            // The first reason stays.
            let why = hand.told.unwrap_or(*why);
            match is_so(scene, now, event, hand, why) {
                true => Ok(()),
                false => Err(format!("{name} leaves ({}) and is {hand:?}", why.word())),
            }
        }
        Action::Tell(Notice::NotReaped {
            worker,
            since,
            name,
        }) => {
            let stops = scene.workers.get(worker).and_then(|hand| hand.stops);
            match stops.and_then(|stops| stops.killed) {
                Some(killed) if span(now, killed) == *since => Ok(()),
                killed => Err(format!(
                    "{name} is not reaped since {since:?}, SIGKILL: {killed:?}"
                )),
            }
        }
        Action::Tell(Notice::Unreclaimed { worker, amount, .. }) => {
            let settling = scene.settling.get(worker);
            match settling.filter(|settling| settling.until <= now && settling.part == *amount) {
                Some(_) => Ok(()),
                None => Err(format!("{amount} of worker {worker} are given up too soon")),
            }
        }
        Action::Tell(Notice::LoadCooling { message, model, .. }) => {
            let (News::Died(gone) | News::Left(gone)) = &scene.news else {
                return Ok(());
            };
            match gone.hand.said.as_ref().is_none_or(|said| said == message) {
                true => Ok(()),
                false => Err(format!(
                    "{model} cannot load: {message}, it said {:?}",
                    gone.hand.said
                )),
            }
        }
        Action::Run(run)
            if scene
                .workers
                .get(&run.worker)
                .is_some_and(|hand| hand.outdated) =>
        {
            Err(format!(
                "job {} for worker {}, whose model changed",
                run.job, run.worker
            ))
        }
        _ => Ok(()),
    }
}

fn next_step(scene: &Scene, now: Moment, worker: Generation, action: &Action) -> Verdict {
    let patience = &scene.settings.patience;
    let stops = scene.workers.get(&worker).and_then(|hand| hand.stops);
    let Some(stops) = stops else {
        // When the drain time is over nothing is left for a request to leave.
        let drained = scene.ends.is_some_and(|end| end <= now) && scene.jobs.is_empty();
        return match (action, drained) {
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

fn is_so(scene: &Scene, now: Moment, event: &Event, hand: &Hand, why: StopReason) -> bool {
    let patience = &scene.settings.patience;
    // The order to leave came just before its reason.
    let alone = hand.job().is_none();
    let waits = scene.waiting(&hand.name.model).next().is_some();
    match why {
        StopReason::NoHello => hand.progressed + patience.hello <= now,
        StopReason::Silent => hand.heard + patience.heartbeat <= now,
        StopReason::Stuck => {
            let (limits, shown) = (shortest(scene, hand), evidence(hand));
            hand.progressed + limits.longest <= now && !shown.wants
                || shown.had + Duration::from_millis(1) >= limits.busy
                || shown.still.is_some_and(|still| still >= limits.still)
        }
        StopReason::Starved => {
            hand.progressed + shortest(scene, hand).longest <= now && evidence(hand).wants
        }
        StopReason::IgnoredCancel => {
            let since = hand.stops.map_or(now, |stops| stops.from);
            since + patience.step <= now
        }
        StopReason::Protocol => {
            let accused = match event {
                Event::WorkerBrokeProtocol { worker, .. } => Some(*worker),
                _ => None,
            };
            match scene.news {
                News::Impossible(worker) => scene.workers.get(&worker) == Some(hand),
                _ => accused.and_then(|worker| scene.workers.get(&worker)) == Some(hand),
            }
        }
        StopReason::Outdated => hand.outdated && alone,
        StopReason::Abandoned => {
            // One of several, so that the next who asks finds one.
            let another = scene
                .live(&hand.name.model)
                .any(|(_, other)| other.is_coming());
            hand.was_loading && !waits && another
        }
        StopReason::Evicted | StopReason::Idle => alone,
        StopReason::Operator => matches!(
            event,
            Event::StopRequested { .. } | Event::RestartRequested { .. }
        ),
        StopReason::Scaled => matches!(event, Event::Scaled { .. }) && alone,
        StopReason::Drain => scene.ends.is_some() && scene.jobs.is_empty(),
    }
}

/// What had to happen with this event happened.
pub(super) fn check_event(
    scene: &Scene,
    now: Moment,
    event: &Event,
    actions: &[Action],
) -> Verdict {
    check_gone(scene, event, actions)?;
    if let Event::WorkerBrokeProtocol { worker, .. } = event
        && scene.workers.get(worker).is_some_and(Hand::is_live)
    {
        return Err(format!("worker {worker} broke the protocol and stays"));
    }
    if let News::Impossible(worker) = scene.news
        && scene.workers.get(&worker).is_some_and(Hand::is_live)
    {
        return Err(format!(
            "worker {worker} named a step that cannot be and stays"
        ));
    }
    let late = scene
        .settling
        .iter()
        .find(|(_, part)| !part.given_up && part.until < now);
    if let Some((worker, _)) = late {
        return Err(format!(
            "the memory of worker {worker} should be told as unreclaimed"
        ));
    }
    if let Event::CpuMeasured { worker, .. } = event
        && let Some(hand) = scene.workers.get(worker)
    {
        check_late(scene, now, *worker, hand)?;
    }
    if *event != Event::DeadlineReached {
        return check_outdated(scene);
    }
    if scene.ends.is_some_and(|at| at <= now) && !scene.jobs.is_empty() {
        return Err(format!(
            "{} jobs are left after the pool's last moment",
            scene.jobs.len()
        ));
    }
    scene
        .workers
        .iter()
        .try_for_each(|(&worker, hand)| check_late(scene, now, worker, hand))
}

/// An end is told once: as a death with what there is to know of it, or as what was wanted.
fn check_gone(scene: &Scene, event: &Event, actions: &[Action]) -> Verdict {
    let (gone, wanted) = match &scene.news {
        News::Died(gone) => (gone, false),
        News::Left(gone) => (gone, true),
        News::Nothing | News::Loaded(..) | News::Stepped(..) | News::Impossible(_) => return Ok(()),
    };
    let Event::WorkerExited { exit, .. } = event else {
        return Ok(());
    };
    let told = |action: &&Action| match action {
        Action::Tell(Notice::Left { worker, why, .. }) => {
            wanted && *worker == gone.worker && gone.hand.told == Some(*why)
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
                && *job == gone.hand.job()
                && names_what(gone, doing)
        }
        _ => false,
    };
    match actions.iter().filter(told).count() {
        1 => Ok(()),
        count => Err(format!(
            "{} is gone, wanted {wanted}, and that is told {count} times",
            gone.hand.name
        )),
    }
}

fn names_what(gone: &Gone, doing: &str) -> bool {
    match gone.hand.life {
        Life::Starting => doing.contains("starting"),
        Life::Loading => doing.contains(&format!("loading {}", gone.hand.permille)),
        Life::Idle => doing.contains("idle"),
        Life::Busy(job) | Life::Unwinding(job) | Life::Leaving(Some(job)) => {
            doing.contains(&format!("job {job} step "))
        }
        Life::Leaving(None) => doing.contains("stopping"),
    }
}

/// Whose model changed finishes its job and leaves.
fn check_outdated(scene: &Scene) -> Verdict {
    let done = |hand: &&Hand| hand.outdated && (hand.is_idle() || hand.is_coming());
    match scene.workers.values().find(done) {
        Some(hand) => Err(format!(
            "{} is out of date, has nothing to do and stays",
            hand.name
        )),
        None => Ok(()),
    }
}

/// Nobody is waited for longer than was said.
fn check_late(scene: &Scene, now: Moment, worker: Generation, hand: &Hand) -> Verdict {
    let patience = &scene.settings.patience;
    let waited = match hand.life {
        Life::Leaving(_) => {
            let Some(stops) = hand.stops else {
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
                    hand.name, stops
                )),
                false => Ok(()),
            };
        }
        Life::Starting => span(now, hand.started) < patience.hello,
        Life::Idle => true,
        Life::Loading | Life::Busy(_) => {
            let (limits, shown) = (longest(scene, hand), evidence(hand));
            // It is judged when the kernel has spoken.
            let judged = shown.judged && hand.samples.last().is_some_and(|(at, _)| *at == now);
            let hangs = match shown.still {
                Some(still) => still >= limits.still,
                None => shown.had >= limits.busy + Duration::from_millis(1),
            };
            span(now, hand.progressed) < limits.longest
                && !(judged && hangs)
                && !is_unasked(hand, &limits, now)
        }
        Life::Unwinding(_) => span(now, hand.progressed) < Duration::from_secs(600),
    };
    match waited {
        true => Ok(()),
        false => Err(format!(
            "worker {worker} does not go on and stays: {hand:?}"
        )),
    }
}
