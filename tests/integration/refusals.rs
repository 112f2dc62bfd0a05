//! A value that cannot be is refused with its field, and costs no worker anything.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tests::daemon::TestDaemon;

fn warm() -> (TestDaemon, Vec<u32>) {
    let daemon = TestDaemon::start("[pool]\nmax_workers_per_model = 2");
    daemon
        .imagepool(&["generate", "a red circle", "-n", "2", "-o", "warm.png"])
        .succeeded();
    daemon
        .stderr
        .wait_for("Worker ready", 2, tests::program::PATIENCE);
    let pids = daemon.worker_pids();
    (daemon, pids)
}

#[test]
fn a_refused_value_exits_2_with_the_field_first() {
    let (daemon, pids) = warm();
    let long = "x".repeat(100_000);
    let cases: [(&str, &[&str]); 14] = [
        ("prompt", &[&long]),
        ("size", &["a", "--size", "17x33"]),
        ("size", &["a", "--size", "0x0"]),
        ("size", &["a", "--size", "100000x100000"]),
        ("size", &["a", "--size", "big"]),
        ("steps", &["a", "--steps", "0"]),
        ("steps", &["a", "--steps", "65"]),
        ("steps", &["a", "--steps", "-1"]),
        ("model", &["a", "-m", "no-such-model"]),
        ("model", &["a", "-m", "no such model"]),
        ("seed", &["a", "--seed", "-1"]),
        ("guidance", &["a", "--guidance", "3.5"]),
        ("guidance", &["a", "--guidance", "NaN"]),
        ("negative", &["a", "--negative", "fog"]),
    ];
    for (field, arguments) in cases {
        let arguments = [&["generate", "-o", "refused.png"], arguments].concat();
        let output = daemon.imagepool(&arguments).ended_with(2);
        let first = output.stderr.lines().next().unwrap_or_default();
        assert!(
            first.starts_with(&format!("imagepool: {field}: ")),
            "{first:.200}"
        );
        assert!(!daemon.sandbox.pictures().join("refused.png").exists());
    }
    assert_unharmed(&daemon, &pids);
}

#[test]
fn a_refusal_as_json_has_kind_field_and_message() {
    let daemon = TestDaemon::start("");
    let output = daemon
        .imagepool(&["generate", "a", "--size", "17x33", "-o", "a.png", "--json"])
        .ended_with(2);
    let error = &output.json()[0]["error"];
    assert_eq!(error["kind"], "bad_value");
    assert_eq!(error["field"], "size");
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|text| text.contains("17x33")),
        "{error}"
    );
}

#[test]
fn an_output_that_cannot_be_written_is_found_before_a_job_is_sent() {
    let (daemon, pids) = warm();
    let jobs = |daemon: &TestDaemon| -> u64 {
        daemon
            .status()
            .workers
            .iter()
            .map(|worker| worker.jobs_done)
            .sum()
    };
    let before = jobs(&daemon);
    let folder = daemon.sandbox.pictures();
    fs::create_dir(folder.join("folder.png")).expect("our own folder");
    fs::write(folder.join("locked.png"), "old").expect("our own folder");
    fs::set_permissions(folder.join("locked.png"), fs::Permissions::from_mode(0o444))
        .expect("ours");
    for output in ["no-such-folder/a.png", "folder.png", "/proc/a.png"] {
        let said = daemon
            .imagepool(&["generate", "a", "-f", "-o", output])
            .ended_with(1);
        assert!(
            said.stderr.starts_with("imagepool: output: "),
            "{}",
            said.stderr
        );
    }
    let said = daemon
        .imagepool(&["generate", "a", "-o", "locked.png"])
        .ended_with(2);
    assert!(
        said.stderr.starts_with("imagepool: output: "),
        "{}",
        said.stderr
    );
    assert_eq!(jobs(&daemon), before);
    assert_unharmed(&daemon, &pids);
}

/// A normal request succeeds, with the workers that were there before.
fn assert_unharmed(daemon: &TestDaemon, pids: &[u32]) {
    daemon
        .imagepool(&["generate", "a red circle", "-f", "-o", "after.png"])
        .succeeded();
    assert_eq!(daemon.worker_pids(), pids);
}
