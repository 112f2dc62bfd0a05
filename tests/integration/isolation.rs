//! The descriptors and environment of a worker, and nothing else.

use std::collections::BTreeSet;

use tests::daemon::TestDaemon;
use tests::processes;

/// A daemon with two ready workers.
fn with_workers(segment: &str) -> TestDaemon {
    let daemon = TestDaemon::start(&format!(
        "segment = \"{segment}\"\n[pool]\nmax_workers_per_model = 2"
    ));
    daemon
        .imagepool(&["generate", "a red circle", "-n", "2", "-o", "a.png"])
        .succeeded();
    daemon
        .stderr
        .wait_for("Worker ready", 2, tests::program::PATIENCE);
    daemon
}

#[test]
fn a_worker_holds_its_socket_its_segment_its_stderr_and_nothing_else() {
    for (segment, place) in [("sealed", "/memfd:"), ("named", "/dev/shm/imagepool-")] {
        let daemon = with_workers(segment);
        let pids = daemon.worker_pids();
        assert_eq!(pids.len(), 2);
        for pid in pids {
            let descriptors = processes::descriptors(pid);
            let mut kinds: Vec<&str> = descriptors
                .iter()
                .map(|(number, target)| kind(*number, &target.to_string_lossy(), place))
                .collect();
            kinds.sort_unstable();
            assert_eq!(
                kinds,
                [
                    "own file", "own file", "own file", "segment", "socket", "stderr", "stderr"
                ],
                "{segment}: {descriptors:?}"
            );
        }
    }
}

/// Returns the purpose of a worker's descriptor.
fn kind(number: u32, target: &str, segment: &str) -> &'static str {
    match number {
        0 if target.starts_with("socket:") => "socket",
        1 | 2 if target.starts_with("pipe:") => "stderr",
        3.. if target.starts_with(segment) => "segment",
        3.. if target.starts_with("/proc/") => "own file",
        _ => "something else",
    }
}

#[test]
fn a_worker_sees_no_token_and_no_settings_in_its_environment() {
    let daemon = with_workers("sealed");
    for pid in daemon.worker_pids() {
        let names = processes::environment_names(pid);
        assert_eq!(
            names,
            BTreeSet::from(["IMAGEPOOL_WORKER".into(), "PATH".into(), "TMPDIR".into()])
        );
    }
    let own = processes::environment_names(daemon.pid());
    assert!(own.contains("HF_TOKEN"), "the daemon was given one");
}

#[test]
fn a_worker_is_known_by_its_full_path_and_has_a_group_of_its_own() {
    let daemon = with_workers("sealed");
    let workers = daemon.sandbox.workers();
    let found: Vec<u32> = workers.iter().map(|worker| worker.pid).collect();
    assert_eq!(found, daemon.worker_pids());
    for worker in workers {
        let group = nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(worker.pid as i32)));
        assert_eq!(group.expect("it lives").as_raw(), worker.pid as i32);
    }
}
