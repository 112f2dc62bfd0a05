//! Children that workers leave behind, in their group and out of it: no grave waits for them.

use std::time::Duration;

use ipc_protocol::request::ImageRequest;
use nix::sys::signal::Signal;
use tests::daemon::TestDaemon;
use tests::job::request;
use tests::misbehaviours::{ONCE_MB, model, settings};
use tests::processes::Process;
use tests::sandbox::Sandbox;
use tests::{turn, wait};

const SETTINGS: &str = "[pool]\ncold_start_workers = 1\nmax_workers_per_model = 1\n";
const LEAVERS: [&str; 5] = [
    "child-keeps-the-socket",
    "exit-leaves-a-child",
    "exit-leaves-a-daemon",
    "exit-leaves-a-stranger",
    "closed-socket-leaves-a-daemon",
];
/// For what takes milliseconds on a machine that is not busy.
const SOON: Duration = Duration::from_secs(20);

fn daemon(weights_mb: u32) -> TestDaemon {
    let settings = format!("{SETTINGS}{}", settings(weights_mb));
    TestDaemon::start_in(Sandbox::with_hostile_worker(&settings))
}

fn wanted(name: &str) -> ImageRequest {
    ImageRequest {
        prompt: format!("a star for {name}"),
        ..request(&model(name), 6, 9)
    }
}

/// Returns the processes that workers left behind.
fn left(daemon: &TestDaemon) -> Vec<Process> {
    let mut processes = daemon.sandbox.processes();
    processes.retain(|process| process.arguments.iter().any(|word| word == "--linger"));
    processes
}

/// Everything is given back, and a SIGTERM ends the daemon.
fn leaves_nothing(mut daemon: TestDaemon) {
    let gone = wait::until(SOON, || left(&daemon).is_empty());
    assert!(gone, "left behind: {:?}", left(&daemon));
    daemon.imagepool(&["stop", "all"]).succeeded();
    let reserved = || -> u64 { daemon.status().memory.iter().map(|it| it.reserved_mb).sum() };
    let back = wait::until(SOON, || reserved() == 0);
    assert!(back, "{} MiB stay booked", reserved());
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait().success());
}

#[test]
fn a_worker_whose_children_hold_its_socket_is_buried_and_its_job_is_drawn_by_another() {
    let _turn = turn::take();
    let daemon = daemon(ONCE_MB);
    for name in LEAVERS {
        let (picture, took) = wait::timed(|| daemon.draw(&wanted(name)));
        let picture = picture.unwrap_or_else(|failure| panic!("{name}: {failure}"));
        assert_eq!(picture.report.attempts, 2, "{name}");
        println!("{name}: drawn again in {took:?}");
    }
    leaves_nothing(daemon);
}

#[test]
fn a_job_whose_every_worker_leaves_children_behind_is_answered() {
    let _turn = turn::take();
    let daemon = daemon(1);
    for name in LEAVERS {
        let failure = daemon.draw(&wanted(name)).expect_err(name);
        println!("{name}: {:?}: {:.100}", failure.kind, failure.message);
    }
    leaves_nothing(daemon);
}
