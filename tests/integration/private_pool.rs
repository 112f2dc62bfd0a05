//! Without a daemon `generate` brings its own pool, and leaves nothing of it.

use std::fs;

use tests::census::segments_of;
use tests::daemon::TestDaemon;
use tests::sandbox::Sandbox;

const ASK: [&str; 6] = ["generate", "a yellow diamond", "--seed", "4", "-o", "a.png"];

#[test]
fn a_private_pool_draws_and_nothing_of_it_stays() {
    for segment in ["sealed", "named"] {
        let sandbox = Sandbox::new(&format!("segment = \"{segment}\""));
        let output = sandbox.imagepool(&ASK).succeeded();
        assert!(output.stderr.contains("private pool"), "{}", output.stderr);
        assert!(sandbox.processes().is_empty(), "{:?}", sandbox.processes());
        let left = sandbox.census(&[]).runtime;
        assert!(
            left.iter().all(|path| path == "private" || path == "lock"),
            "{left:?}"
        );
    }
}

#[test]
fn a_private_pool_draws_the_bytes_that_a_daemon_draws() {
    let sandbox = Sandbox::new("");
    sandbox.imagepool(&ASK).succeeded();
    let alone = fs::read(sandbox.pictures().join("a.png")).expect("it was written");
    let daemon = TestDaemon::start("");
    daemon.imagepool(&ASK).succeeded();
    let served = fs::read(daemon.sandbox.pictures().join("a.png")).expect("it was written");
    assert!(alone == served);
    assert!(
        segments_of(&[daemon.pid()]).is_empty(),
        "a memfd has no name"
    );
}

#[test]
fn a_private_pool_is_asked_to_wait_for_nothing_when_the_request_is_refused() {
    let sandbox = Sandbox::new("");
    let output = sandbox
        .imagepool(&["generate", "a", "--size", "17x33", "-o", "a.png"])
        .ended_with(2);
    // Before anything else, so that a program finds it.
    assert!(output.stderr.starts_with("imagepool: size: "));
    assert!(sandbox.processes().is_empty());
}

#[test]
fn a_plan_without_a_daemon_is_that_of_a_private_pool() {
    let sandbox = Sandbox::new("");
    let asked = sandbox
        .imagepool(&["plan", "pocket-flux", "--private"])
        .succeeded();
    let lines = String::from_utf8_lossy(&asked.stdout).into_owned();
    assert!(lines.starts_with("pocket-flux at 128x128:"), "{lines}");
    assert_eq!(asked.stderr, "");
    let unasked = sandbox.imagepool(&["plan", "pocket-flux"]).succeeded();
    assert!(
        unasked.stderr.contains("private pool"),
        "{}",
        unasked.stderr
    );
    assert_eq!(unasked.stdout, asked.stdout);
    let absent = ["--socket", "nobody.sock", "plan", "pocket-flux"];
    sandbox.imagepool(&absent).ended_with(7);
    assert!(sandbox.processes().is_empty(), "{:?}", sandbox.processes());
}

#[test]
fn a_private_pool_leaves_although_a_model_is_to_have_a_worker_always() {
    let sandbox = Sandbox::new("[models.pocket-flux]\npinned = true");
    sandbox.imagepool(&ASK).succeeded();
    assert!(sandbox.processes().is_empty(), "{:?}", sandbox.processes());
}
