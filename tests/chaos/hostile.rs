//! Workers that lie, flood and die in every way there is a name for, all at once.

use std::collections::BTreeMap;
use std::fs;
use std::thread;

use ipc_protocol::client::Picture;
use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::request::ImageRequest;
use tests::daemon::TestDaemon;
use tests::job::request;
use tests::misbehaviours::{MISBEHAVIOURS, ONCE_MB, model, settings};
use tests::sandbox::Sandbox;
use tests::turn;

/// A decent model beside the bad ones, which have one worker each.
const SETTINGS: &str = "[pool]\ncold_start_workers = 1\nmax_workers_per_model = 1\n\
    [models.good]\nfamily = \"synthetic\"\nparams = { step_ms = 30, load_ms = 1, weights_mb = 1 }\n";
/// The supervisor's highest allowed memory, whatever is sent to it.
const SUPERVISOR_KIB_MAX: u64 = 256 * 1024;
const STEPS: u32 = 6;

/// The same picture for every model; prompts differ, so that no quarantine meets another's request.
fn wanted(model: &str) -> ImageRequest {
    ImageRequest {
        prompt: format!("a star for {model}"),
        ..request(model, STEPS, 9)
    }
}

type Answers = BTreeMap<&'static str, Result<Picture, Failure>>;

fn daemon(weights_mb: u32) -> TestDaemon {
    let settings = format!("{SETTINGS}{}", settings(weights_mb));
    TestDaemon::start_in(Sandbox::with_hostile_worker(&settings))
}

/// Asks every bad model for a picture, and the good one again and again until all have answered.
fn ask_all(daemon: &TestDaemon) -> Answers {
    let honest = daemon.draw(&wanted("good")).expect("a decent model");
    let good = daemon
        .status()
        .workers
        .iter()
        .find(|it| it.model.as_str() == "good")
        .cloned();
    let answers = thread::scope(|scope| {
        let asked: Vec<_> = MISBEHAVIOURS
            .iter()
            .map(|name| {
                let answer = scope.spawn(|| daemon.draw(&wanted(&model(name))));
                (*name, answer)
            })
            .collect();
        let mut answers = Answers::new();
        for (name, answer) in asked {
            while !answer.is_finished() {
                let picture = daemon.draw(&wanted("good")).expect("a decent model");
                assert_eq!(picture.report.attempts, 1, "disturbed by {name}");
                assert!(picture.rgb8 == honest.rgb8, "disturbed by {name}");
            }
            answers.insert(name, answer.join().expect("one answer"));
        }
        answers
    });
    let now = daemon.status();
    let worker = now.workers.iter().find(|it| it.model.as_str() == "good");
    assert_eq!(
        worker.map(|it| it.pid),
        good.map(|it| it.pid),
        "the good worker was replaced"
    );
    assert_eq!(now.supervisor.pid, daemon.pid());
    assert!(
        held_kib(daemon.pid()) < SUPERVISOR_KIB_MAX,
        "{} KiB",
        held_kib(daemon.pid())
    );
    answers
}

/// Most memory a process has held.
fn held_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
    number
        .and_then(|text| text.trim().parse().ok())
        .expect("the kernel tells")
}

#[test]
fn a_worker_that_always_misbehaves_costs_its_own_client_one_typed_answer() {
    let _turn = turn::take();
    let daemon = daemon(1);
    for (name, answer) in ask_all(&daemon) {
        println!("{name}: {}", in_short(&answer));
        let failure = answer.expect_err(name);
        assert!(
            matches!(
                failure.kind,
                FailureKind::WorkerLost
                    | FailureKind::Quarantined
                    | FailureKind::LoadRefused
                    | FailureKind::ModelBroken
                    | FailureKind::ModelUnusable
                    | FailureKind::MemoryExhausted
            ),
            "{name}: {failure:?}"
        );
    }
}

#[test]
fn a_worker_that_misbehaves_once_costs_no_picture() {
    let _turn = turn::take();
    let daemon = daemon(ONCE_MB);
    let honest = daemon.draw(&wanted("good")).expect("a decent model");
    let answers = ask_all(&daemon);
    for (name, answer) in &answers {
        println!("{name}: {}", in_short(answer));
    }
    for (name, answer) in answers {
        match answer {
            Ok(picture) => assert!(picture.rgb8 == honest.rgb8, "{name}: another picture"),
            // A worker that says why it cannot load is believed: the model cools down.
            Err(failure) if name.starts_with("giving-up") => {
                assert_eq!(failure.kind, FailureKind::ModelUnusable);
            }
            Err(failure) => panic!("{name}: {failure}"),
        }
    }
}

/// An answer for people, a line at most.
fn in_short(answer: &Result<Picture, Failure>) -> String {
    match answer {
        Ok(picture) => format!("a picture after {} attempts", picture.report.attempts),
        Err(failure) => format!("{:?}: {:.100}", failure.kind, failure.message),
    }
}
