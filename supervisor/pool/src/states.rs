//! Writes the table of a worker's states by event and compares it with `STATES.md`.
//!
//! `POOL_STATES=write` writes the file anew.

use ipc_protocol::family::Family;
use ipc_protocol::ids::{Device, DeviceConstraint, Generation, JobId, ModelKey};
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::{Mebibytes, PictureSize};

use crate::state::lifecycle::Lifecycle;
use crate::{
    Action, Activation, DeviceLimit, Event, Exit, GuidanceRule, JobFault, ModelSpec, Need, Notice,
    Phases, Pool, Registry, Settings, SizeRule, StartFault, Ticket,
};

const STATES: [&str; 6] = [
    "Starting",
    "Loading",
    "Idle",
    "Busy",
    "Unwinding",
    "Stopping",
];
const WORKER: Generation = Generation(1);
const JOB: JobId = JobId(1);

fn spec() -> ModelSpec {
    let size = PictureSize {
        width: 64,
        height: 64,
    };
    ModelSpec {
        key: ModelKey::new("m").expect("a plain key"),
        aliases: Vec::new(),
        family: Family::SYNTHETIC,
        need: Need {
            on_cpu: Some(Mebibytes(10)),
            on_cuda: None,
            activation: Activation::default(),
        },
        default_size: size,
        sizes: SizeRule {
            multiple: 16,
            min: 64,
            max: 64,
        },
        default_steps: 4,
        max_steps: 4,
        guidance: GuidanceRule::None,
        empty_prompt: true,
        digest: String::new(),
        pinned: false,
        min_workers: None,
        max_workers: Some(1),
        device: DeviceConstraint::Auto,
        params: String::new(),
        files: crate::Files::default(),
    }
}

fn tell(pool: &mut Pool, event: Event) -> Vec<Action> {
    let mut actions = Vec::new();
    let now = pool.state().now();
    pool.handle(now, event, &mut actions);
    let defect = |action: &Action| matches!(action, Action::Tell(Notice::Defect { .. }));
    assert!(!actions.iter().any(defect), "{actions:?}");
    actions
}

/// A pool whose one worker is in the given state.
fn pool_in(state: &str) -> Pool {
    let settings = Settings {
        default_model: "m".into(),
        ..Settings::default()
    };
    let registry = Registry::new(vec![spec()]).expect("a sound registry");
    let host = DeviceLimit {
        device: Device::Host,
        limit: Mebibytes(15),
        confirms: false,
    };
    let mut pool = Pool::new(settings, registry, vec![host]);
    let arrived = Event::RequestArrived {
        ticket: Ticket(1),
        request: ImageRequest::new("a fox"),
        user: "uid:1".into(),
        entropy: 1,
    };
    let worker = WORKER;
    let path: &[Event] = &[
        arrived,
        Event::WorkerSaidHello { worker },
        Event::WorkerReady {
            worker,
            footprint: None,
        },
    ];
    let done = Event::JobFinished {
        worker,
        job: JOB,
        phases: Phases::default(),
    };
    let cancelled = Event::RequestCancelled {
        job: JOB,
        by: "the client".into(),
    };
    let what = "garbage".to_string();
    let broke = Event::WorkerBrokeProtocol { worker, what };
    let (steps, more) = match state {
        "Starting" => (1, None),
        "Loading" => (2, None),
        "Idle" => (3, Some(done)),
        "Unwinding" => (3, Some(cancelled)),
        "Stopping" => (3, Some(broke)),
        _ => (3, None),
    };
    for event in path[..steps].iter().cloned().chain(more) {
        tell(&mut pool, event);
    }
    assert_eq!(name_of(&pool), state);
    pool
}

fn name_of(pool: &Pool) -> &'static str {
    match pool.state().fleet().get(WORKER).map(|worker| worker.life()) {
        Some(Lifecycle::Starting { .. }) => "Starting",
        Some(Lifecycle::Loading { .. }) => "Loading",
        Some(Lifecycle::Idle { .. }) => "Idle",
        Some(Lifecycle::Busy { .. }) => "Busy",
        Some(Lifecycle::Unwinding { .. }) => "Unwinding",
        Some(Lifecycle::Stopping { .. }) => "Stopping",
        None => "gone",
    }
}

fn events() -> Vec<(&'static str, Event)> {
    let (worker, job) = (WORKER, JOB);
    let cancelled = Event::RequestCancelled {
        job,
        by: "the client".into(),
    };
    let phases = Phases::default();
    let fault = JobFault::Cancelled;
    vec![
        (
            "WorkerStartFailed",
            Event::WorkerStartFailed {
                worker,
                message: "no process".into(),
                fault: StartFault::Program,
            },
        ),
        ("WorkerSaidHello", Event::WorkerSaidHello { worker }),
        (
            "LoadProgressed",
            Event::LoadProgressed {
                worker,
                permille: 500,
            },
        ),
        (
            "LoadFailed",
            Event::LoadFailed {
                worker,
                message: "torn".into(),
            },
        ),
        (
            "WorkerReady",
            Event::WorkerReady {
                worker,
                footprint: None,
            },
        ),
        ("WorkerHeard", Event::WorkerHeard { worker }),
        ("WorkerWorked", Event::WorkerWorked { worker, work: 1 }),
        ("CpuMeasured", Event::CpuMeasured { worker, cpu: None }),
        (
            "StepFinished",
            Event::StepFinished {
                worker,
                job,
                step: 1,
            },
        ),
        (
            "JobFinished",
            Event::JobFinished {
                worker,
                job,
                phases,
            },
        ),
        ("JobFailed", Event::JobFailed { worker, job, fault }),
        ("RequestCancelled", cancelled),
        (
            "WorkerBrokeProtocol",
            Event::WorkerBrokeProtocol {
                worker,
                what: "garbage".into(),
            },
        ),
        ("DeadlineReached, overdue", Event::DeadlineReached),
        (
            "WorkerExited",
            Event::WorkerExited {
                worker,
                exit: Exit::Code(85),
                resume_step: None,
            },
        ),
    ]
}

fn cell(state: &str, event: &Event) -> String {
    let mut pool = pool_in(state);
    let mut actions = tell(&mut pool, event.clone());
    // Deadlines of others, such as growth, may come before the worker's own.
    for _ in 0..5 {
        if *event == Event::DeadlineReached && actions.is_empty() {
            let due = pool.next_deadline().expect("every state has a deadline");
            actions.clear();
            pool.handle(due, event.clone(), &mut actions);
        }
    }
    let after = name_of(&pool);
    let word = |action: &Action| match action {
        Action::Run(_) => Some("Run"),
        Action::Cancel { .. } => Some("Cancel"),
        Action::AskToLeave { .. } => Some("AskToLeave"),
        Action::Terminate { .. } => Some("Terminate"),
        Action::Kill { .. } => Some("Kill"),
        Action::Answer { .. } => Some("Answer"),
        Action::Start(_) => Some("Start"),
        Action::Measure { .. } => Some("Measure"),
        Action::Remember(_)
        | Action::AskTruce { .. }
        | Action::EndTruce { .. }
        | Action::Accept(_)
        | Action::Refuse { .. }
        | Action::AwaitFiles { .. }
        | Action::Fetch { .. }
        | Action::StopFetch { .. }
        | Action::Acknowledge { .. }
        | Action::Report { .. }
        | Action::Tell(_)
        | Action::Exit => None,
    };
    let said: Vec<&str> = actions.iter().filter_map(word).collect();
    match (after == state, said.is_empty()) {
        (true, true) => "·".into(),
        (true, false) => said.join(", "),
        (false, true) => format!("▸ {after}"),
        (false, false) => format!("▸ {after}: {}", said.join(", ")),
    }
}

fn table() -> String {
    let mut lines = vec![
        "# A worker's states and what each event makes of them".to_string(),
        String::new(),
        "One worker, whose model has one job. `·` changes no state; `▸` leads to another; words after the".into(),
        "colon are the actions. Written by the test in `src/states.rs`.".into(),
        String::new(),
        format!("| event | {} |", STATES.join(" | ")),
        format!("|---|{}", "---|".repeat(STATES.len())),
    ];
    for (name, event) in events() {
        let cells: Vec<String> = STATES.iter().map(|state| cell(state, &event)).collect();
        lines.push(format!("| {name} | {} |", cells.join(" | ")));
    }
    lines.push(String::new());
    lines.join("\n")
}

#[test]
fn the_table_of_states_is_what_the_code_does() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/STATES.md");
    let table = table();
    if std::env::var("POOL_STATES").as_deref() == Ok("write") {
        std::fs::write(path, &table).expect("the folder of the package can be written");
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(
        written, table,
        "POOL_STATES=write cargo test -p pool writes it anew"
    );
}

#[test]
fn every_state_has_a_deadline() {
    for state in STATES {
        assert!(pool_in(state).next_deadline().is_some(), "{state}");
    }
}
