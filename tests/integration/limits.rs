//! Limits that a shell or a service manager sets cause errors with a message, not crashes.

use std::time::Duration;

use ipc_protocol::status::WorkerState;
use nix::sys::signal::Signal;
use tests::daemon::TestDaemon;
use tests::job::request;
use tests::program::{Call, PATIENCE};
use tests::sandbox::Sandbox;
use tests::{imagepool, turn, wait};

#[test]
fn a_limit_of_file_sizes_is_an_error_that_names_it() {
    let daemon = TestDaemon::start_in(Sandbox::behind("supervisor", "ulimit -f 1", ""));
    let failure = daemon
        .draw(&request("pocket-flux", 1, 1))
        .expect_err("no segment fits");
    assert!(failure.message.contains("ulimit -f"), "{failure}");
    assert_eq!(daemon.status().supervisor.pid, daemon.pid(), "it lives");
}

#[test]
fn an_allocation_that_fails_is_lack_of_memory_and_nothing_else() {
    let settings = "[pool]\ncold_start_workers = 1\n[models.fat]\nfamily = \"synthetic\"\n\
        params = { step_ms = 1, load_ms = 1, weights_mb = 400 }\n";
    let daemon = TestDaemon::start_in(Sandbox::behind("worker", "ulimit -v 300000", settings));
    let failure = daemon
        .draw(&request("fat", 1, 1))
        .expect_err("there is no memory for it");
    assert!(
        failure.message.contains("memory allocation of"),
        "{failure}"
    );
    let deaths = daemon.stderr.with("Worker died");
    assert!(!deaths.is_empty());
    for line in deaths {
        assert!(line.contains("an allocation failed"), "{line}");
    }
}

/// Models that are to start at once.
const MODELS: usize = 300;

#[test]
fn many_models_start_a_few_at_a_time_and_a_sigterm_ends_them_in_its_time() {
    let _turn = turn::take();
    let models = (0..MODELS).map(|number| {
        format!("[models.syn-{number}]\nfamily = \"synthetic\"\nparams = {{ step_ms = 1, load_ms = 1, weights_mb = 1 }}\n")
    });
    let models: String = models.collect();
    let pool = "[pool]\ncold_start_workers = 1\nmax_starting_workers = 8\ndrain_seconds = 1\n";
    let mut daemon = TestDaemon::start(&format!("{pool}{models}"));
    let starting = Call::start(imagepool::command(&daemon.sandbox, &["start", "all"]));
    let mut most = 0;
    let many_run = wait::until(PATIENCE, || {
        let workers = daemon.status().workers;
        let coming = workers
            .iter()
            .filter(|worker| worker.state == WorkerState::Starting);
        most = most.max(coming.count());
        workers.len() > 50
    });
    assert!(many_run, "they start");
    assert!(
        most > 0 && most <= 4,
        "{most} start at once for an operator"
    );
    daemon.signal(Signal::SIGTERM);
    let (ended, took) = wait::timed(|| daemon.wait());
    println!("{most} at once; ended {took:?} after SIGTERM");
    assert!(ended.success());
    assert!(took < Duration::from_secs(10), "{took:?}");
    let _ = starting.output();
}
