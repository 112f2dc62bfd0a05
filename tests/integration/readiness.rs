//! `/health` says whether the daemon lives, `/ready` whether it would accept a request.
//!
//! The request is for one picture of the default model, and the answer is the one that a client gets.

use tests::daemon::TestDaemon;
use tests::job::request;
use tests::program::PATIENCE;
use tests::wait;

const MODEL: &str = "default_model = \"syn\"\n[pool]\ncold_start_workers = 1\nmax_workers_per_model = 1\nqueue_per_model = 1\n\
    [models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 20, load_ms = 20, weights_mb = 8 }\n";

/// Waits until the daemon says that it is ready.
#[track_caller]
fn is_ready(daemon: &TestDaemon) {
    let reply = || daemon.http().get("/ready");
    let found = wait::until(PATIENCE, || reply().status == 200);
    assert!(found, "{}", reply().text());
    assert_eq!(daemon.http().get("/health").ok()["status"], "ok");
}

/// Waits until the daemon is not ready for this reason, and checks that it refuses a request of `model` for the same.
#[track_caller]
fn refuses(daemon: &TestDaemon, model: &str, word: &str) {
    let reply = || daemon.http().get("/ready");
    let found = wait::until(PATIENCE, || {
        let reply = reply();
        reply.status == 503 && reply.json()["error"]["code"] == word
    });
    let reply = reply();
    assert!(found, "{} {}", reply.status, reply.text());
    let refused = daemon.draw(&request(model, 1, 1)).expect_err("not ready");
    assert_eq!(refused.kind.word(), word, "{refused}");
    assert_eq!(reply.json()["error"]["type"], "server_error");
    let retry = reply.header("retry-after").is_some();
    assert!(retry || reply.header("x-should-retry") == Some("false"));
    assert_eq!(daemon.http().get("/health").ok()["status"], "ok");
}

#[test]
fn a_daemon_is_ready_cold_and_warm_and_not_while_its_model_is_stopped() {
    let daemon = TestDaemon::start(MODEL);
    is_ready(&daemon);
    daemon.draw(&request("syn", 1, 1)).expect("ready means so");
    is_ready(&daemon);
    daemon.imagepool(&["stop", "syn"]).succeeded();
    refuses(&daemon, "syn", "stopped");
    daemon.imagepool(&["start", "syn"]).succeeded();
    is_ready(&daemon);
}

#[test]
fn a_full_queue_and_a_drain_end_readiness_until_they_are_over() {
    let daemon = TestDaemon::start(MODEL);
    let begun = |seed: &str, steps: &str| {
        let file = format!("{seed}.png");
        daemon.imagepool_begun(&[
            "generate", "x", "--steps", steps, "--seed", seed, "-o", &file,
        ])
    };
    let first = begun("1", "300");
    let runs = || {
        daemon
            .status()
            .queue
            .iter()
            .any(|job| job.state == "running")
    };
    assert!(wait::until(PATIENCE, runs));
    is_ready(&daemon);
    let second = begun("2", "1");
    refuses(&daemon, "syn", "queue_full");
    first.output().succeeded();
    second.output().succeeded();
    is_ready(&daemon);
    daemon.imagepool(&["drain"]).succeeded();
    refuses(&daemon, "syn", "draining");
    daemon.imagepool(&["drain", "--undo"]).succeeded();
    is_ready(&daemon);
}

#[test]
fn a_model_without_memory_or_with_unusable_files_is_not_ready() {
    let small = TestDaemon::start(&format!("{MODEL}[memory]\nhost_limit_mb = 4\n"));
    refuses(&small, "syn", "memory_exhausted");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = format!(
        "default_model = \"mine\"\n[models.mine]\npath = {:?}\n",
        folder.path()
    );
    let broken = TestDaemon::start(&settings);
    refuses(&broken, "mine", "model_unusable");
}
