//! Concurrent first requests start no more workers than a cold start allows.
//!
//! Ten to five hundred at once: until the first worker runs no more than a cold start, later never more than
//! the maximum.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use ipc_protocol::ids::Generation;
use ipc_protocol::request::ImageRequest;
use pool::{Action, Event, ModelSpec, Moment, Phases, Pool, Registry, Settings, Ticket};

use crate::plan::WorldPlan;
use crate::random::SeededRandom;

/// Checks this many seeds; the error names the seed that failed.
pub(crate) fn check(seeds: u64) -> Result<(), String> {
    (1..=seeds).try_for_each(|seed| burst(seed).map_err(|what| format!("seed {seed}: {what}")))
}

fn burst(seed: u64) -> Result<(), String> {
    let mut random = SeededRandom::new(seed);
    let plan = WorldPlan::quiet(seed, 1);
    let settings = Settings {
        default_model: "m0".into(),
        queue_per_model: 1000,
        queue_total: 1000,
        ..Settings::default()
    };
    let mut limits = plan.device_limits(&mut random);
    limits[0].limit = ipc_protocol::units::Mebibytes(1_000_000);
    // Workers that stay would come and go for ever here; they are the big worlds' business.
    let registry = plan.registry(&mut random);
    let specs = registry.iter().cloned().map(|spec| ModelSpec {
        pinned: false,
        min_workers: None,
        ..spec
    });
    let registry = Registry::new(specs.collect())?;
    let mut pool = Pool::new(settings, registry, limits);
    let (mut now, mut actions) = (Moment::START, Vec::new());
    for nth in 0..random.from(10, 500) {
        now = now + Duration::from_micros(random.from(0, 300));
        let request = ImageRequest::new("a fox");
        let event = Event::RequestArrived {
            ticket: Ticket(nth),
            request,
            user: "uid:1".into(),
            entropy: nth,
        };
        pool.handle(now, event, &mut actions);
    }
    let started = starts(&actions);
    if started > 2 {
        return Err(format!("{started} started before the first ran"));
    }
    let mut pending: VecDeque<Action> = actions.drain(..).collect();
    let mut alive: BTreeSet<Generation> = BTreeSet::new();
    while let Some(action) = pending.pop_front() {
        now = now + Duration::from_millis(random.from(1, 1500));
        for &worker in &alive {
            pool.handle(now, Event::WorkerHeard { worker }, &mut actions);
        }
        match &action {
            Action::Start(start) => alive.insert(start.worker),
            Action::AskToLeave { worker } => alive.remove(worker),
            _ => false,
        };
        for event in reaction(&action) {
            pool.handle(now, event, &mut actions);
        }
        if pool.next_deadline().is_some_and(|at| at <= now) {
            pool.handle(now, Event::DeadlineReached, &mut actions);
        }
        if alive.len() > 4 {
            return Err(format!("{} workers", alive.len()));
        }
        // Reports ask for nothing.
        pending.extend(
            actions
                .drain(..)
                .filter(|action| !matches!(action, Action::Report { .. })),
        );
    }
    Ok(())
}

fn starts(actions: &[Action]) -> usize {
    actions
        .iter()
        .filter(|action| matches!(action, Action::Start(_)))
        .count()
}

/// A worker that starts and loads at once.
pub(crate) fn comes_up(worker: Generation) -> Vec<Event> {
    vec![
        Event::WorkerStarted { worker, pid: 1 },
        Event::WorkerSaidHello { worker },
        Event::WorkerReady {
            worker,
            footprint: None,
        },
    ]
}

fn reaction(action: &Action) -> Vec<Event> {
    match action {
        Action::Start(start) => comes_up(start.worker),
        Action::Run(run) => vec![Event::JobFinished {
            worker: run.worker,
            job: run.job,
            phases: Phases::default(),
        }],
        Action::AskToLeave { worker } => vec![Event::WorkerExited {
            worker: *worker,
            exit: pool::Exit::Code(0),
            resume_step: None,
        }],
        _ => Vec::new(),
    }
}
