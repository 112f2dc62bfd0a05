//! A daemon's record replays in the simulator, with every check made again.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use nix::sys::signal::Signal;
use tests::daemon::TestDaemon;
use tests::job::{self, request};
use tests::processes;
use tests::program::{self, Call, ProgramOutput};
use tests::sandbox::Sandbox;

const MODEL: &str = "default_model = \"syn\"\n[models.syn]\nfamily = \"synthetic\"\n\
    params = { step_ms = 20, load_ms = 1, weights_mb = 1 }\n";

/// Records a daemon that draws for several, loses a worker in the middle of a job, and refuses a request.
fn record() -> (Arc<Sandbox>, String) {
    let daemon = TestDaemon::start_recorded(MODEL);
    thread::scope(|scope| {
        for seed in 0..4 {
            let mut client = daemon.client();
            scope.spawn(move || job::draw(&mut client, &request("syn", 4, seed), |_, _| {}));
        }
    });
    let mut killed = None;
    let drawn = job::draw(&mut daemon.client(), &request("syn", 8, 9), |id, step| {
        if step == 3 && killed.is_none() {
            killed = daemon.worker_of(id).and_then(|worker| worker.pid);
            processes::signal(killed.expect("it runs somewhere"), Signal::SIGKILL);
        }
    });
    let picture = drawn.expect("another worker goes on with it");
    assert_eq!(picture.report.attempts, 2);
    let refused = daemon.draw(&request("syn", 0, 1));
    refused.expect_err("a picture of no steps is none");
    let sandbox = Arc::clone(&daemon.sandbox);
    let _ = daemon.recorded();
    let text = fs::read_to_string(sandbox.record()).expect("the daemon wrote it");
    (sandbox, text)
}

fn replayed(sandbox: &Sandbox, text: &str) -> ProgramOutput {
    fs::write(sandbox.record(), text).expect("our own folder");
    let mut command = program::command(Path::new(env!("CARGO_BIN_EXE_replay")), sandbox);
    command.arg(sandbox.record());
    Call::start(command).output()
}

#[test]
fn a_record_with_a_killed_worker_replays_without_a_violation_and_a_bent_one_does_not() {
    let (sandbox, text) = record();
    let told = |output: &ProgramOutput| String::from_utf8_lossy(&output.stdout).into_owned();

    let output = replayed(&sandbox, &text).ended_with(0);
    let events = text.lines().count() - 1;
    assert!(
        told(&output).starts_with(&format!("events {events} · ")),
        "{}",
        told(&output)
    );
    for part in ["jobs 5", "pictures 5", "violations 0", "it left"] {
        assert!(told(&output).contains(part), "{}", told(&output));
    }

    let torn = &text[..text.trim_end().len() - 1];
    let output = replayed(&sandbox, torn).ended_with(1);
    let last = format!("line {}: ", events + 1);
    assert!(told(&output).contains(&last), "{}", told(&output));

    // A record in which a worker comes up that this pool never started.
    let bent = text.replacen("\"worker\":2", "\"worker\":77", 1);
    assert_ne!(bent, text);
    let output = replayed(&sandbox, &bent).ended_with(1);
    assert!(
        told(&output).contains("VIOLATION at line "),
        "{}",
        told(&output)
    );
}

#[test]
fn a_pool_decides_again_what_the_daemon_decided() {
    let daemon = TestDaemon::start_recorded(MODEL);
    let drawn: Vec<_> = (0..3)
        .map(|seed| {
            daemon
                .draw(&request("syn", 2, seed))
                .expect("it can be drawn")
        })
        .collect();
    let decisions = daemon.recorded().decisions();
    let answered = decisions.iter().flat_map(|decided| &decided.actions);
    let again: Vec<_> = answered
        .filter_map(|action| match action {
            pool::Action::Answer {
                job,
                outcome: pool::Outcome::Picture(facts),
            } => Some((*job, facts.seed, facts.worker.to_string())),
            _ => None,
        })
        .collect();
    let then: Vec<_> = drawn
        .iter()
        .map(|picture| {
            (
                picture.job,
                picture.report.seed,
                picture.report.worker.to_string(),
            )
        })
        .collect();
    assert_eq!(again, then);
}
