//! Limits that a shell or a service manager sets cause errors with a message, not crashes.

use tests::daemon::TestDaemon;
use tests::job::request;
use tests::sandbox::Sandbox;

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
