//! A client that leaves takes its jobs with it; Ctrl-C exits with 130.

use nix::sys::signal::Signal;
use tests::daemon::TestDaemon;
use tests::job::{draw, request};
use tests::program::PATIENCE;
use tests::wait;

/// Steps long enough to be interrupted and short enough to wait for.
const SLOW: &str = "default_model = \"syn\"\n[models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 50, load_ms = 1, weights_mb = 1 }\n";

fn is_at_rest(daemon: &TestDaemon) -> bool {
    let status = daemon.status();
    status.queue.is_empty() && status.workers.iter().all(|worker| worker.job.is_none())
}

#[test]
fn a_client_that_is_gone_has_its_jobs_cancelled_and_costs_no_worker() {
    let daemon = TestDaemon::start(SLOW);
    let mut client = daemon.client();
    let drawing = client
        .generate(&request("syn", 1000, 1))
        .expect("a good request");
    let job = drawing.accepted.first;
    // The first step is the event: it runs now.
    let stepped = drawing
        .into_iter()
        .any(|update| matches!(update, Ok(ipc_protocol::client::Update::Step { .. })));
    assert!(stepped);
    let worker = daemon.worker_of(job).expect("it runs");
    drop(client);
    assert!(
        wait::until(PATIENCE, || is_at_rest(&daemon)),
        "{:?}",
        daemon.status()
    );
    daemon
        .draw(&request("syn", 2, 1))
        .expect("the pool serves on");
    assert!(daemon.worker_pids().contains(&worker.pid.expect("it runs")));
}

#[test]
fn an_interrupted_command_ends_with_130_and_its_job_is_cancelled() {
    let daemon = TestDaemon::start(SLOW);
    let mut call = daemon.imagepool_begun(&["generate", "a", "--steps", "1000", "-o", "a.png"]);
    let running = || {
        daemon
            .status()
            .workers
            .iter()
            .any(|worker| worker.job.as_ref().is_some_and(|job| job.step >= 1))
    };
    assert!(wait::until(PATIENCE, running));
    call.signal(Signal::SIGINT);
    call.output().ended_with(130);
    assert!(wait::until(PATIENCE, || is_at_rest(&daemon)));
    assert!(!daemon.sandbox.pictures().join("a.png").exists());
}

#[test]
fn a_cancelled_job_is_answered_once_and_the_next_one_runs() {
    let daemon = TestDaemon::start(SLOW);
    let mut client = daemon.client();
    let canceller = client.canceller();
    let failure = draw(&mut client, &request("syn", 1000, 1), |job, step| {
        if step == 2 {
            canceller.cancel(job).expect("the daemon listens");
        }
    })
    .expect_err("it was cancelled");
    assert_eq!(failure.kind, ipc_protocol::failure::FailureKind::Cancelled);
    draw(&mut client, &request("syn", 2, 1), |_, _| {}).expect("the conversation goes on");
}
