//! The budget decides how many workers there are, and says no with the arithmetic.

use std::fs;
use std::time::Duration;

use ipc_protocol::failure::FailureKind;
use ipc_protocol::status::WorkerStatus;
use tests::daemon::TestDaemon;
use tests::job::request;
use tests::misbehaviours::{self, HELD_MB, model};
use tests::sandbox::Sandbox;
use tests::turn;
use tests::wait;

fn need_mb() -> u64 {
    let status = TestDaemon::start("").status();
    let model = |key: &str| {
        status
            .models
            .iter()
            .find(|model| model.key.as_str() == key)
            .cloned()
    };
    model("pocket-flux").expect("the embedded model").need_mb
}

#[test]
fn where_one_worker_fits_there_is_one() {
    let need = need_mb();
    let limit = need + need / 2;
    let daemon = TestDaemon::start(&format!("[memory]\nhost_limit_mb = {limit}"));
    let calls: Vec<_> = (0..4)
        .map(|seed| {
            let (seed, file) = (seed.to_string(), format!("{seed}.png"));
            daemon.imagepool_begun(&["generate", "a red circle", "--seed", &seed, "-o", &file])
        })
        .collect();
    for call in calls {
        call.output().succeeded();
    }
    assert_eq!(daemon.stderr.with("Spawned worker").len(), 1);
    let host = daemon
        .status()
        .memory
        .into_iter()
        .find(|memory| memory.device == "host");
    let host = host.expect("the host's books");
    assert_eq!(host.limit_mb, limit);
    assert!(host.reserved_mb <= limit);
}

#[test]
fn where_none_fits_every_request_is_refused_at_once_with_the_arithmetic() {
    let _turn = turn::take();
    let need = need_mb();
    let limit = need / 2;
    let daemon = TestDaemon::start(&format!("[memory]\nhost_limit_mb = {limit}"));
    let sentence =
        format!("Cannot spawn workers for pocket-flux. Need {need} MB, only {limit} MB available");
    for seed in 0..5 {
        let mut client = daemon.client();
        let wanted = request("pocket-flux", 4, seed);
        let (answer, took) = wait::timed(|| tests::job::draw(&mut client, &wanted, |_, _| {}));
        let failure = answer.expect_err("no room");
        assert_eq!(failure.message, sentence);
        assert!(
            matches!(
                failure.kind,
                FailureKind::MemoryExhausted | FailureKind::NeverFits
            ),
            "{failure:?}"
        );
        assert!(took < Duration::from_millis(100), "{took:?}");
    }
    let output = daemon
        .imagepool(&["generate", "a red circle", "-o", "a.png"])
        .ended_with(1);
    assert_eq!(output.stderr.trim_end(), format!("imagepool: {sentence}"));
    assert!(daemon.stderr.with("Spawned worker").is_empty());
}

const WITHOUT_GROUPS: &str = "[memory]\ncontrol_groups = \"off\"\n";

/// The limit of private memory that the kernel has for a process, in bytes.
fn data_limit(pid: u32) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max data size"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// Half more than is reserved on the host, and 512 MiB, in bytes.
fn expected_limit(worker: &WorkerStatus) -> u64 {
    let reserved = worker.reserved_mb["host"];
    (reserved + reserved / 2 + 512) << 20
}

#[test]
fn without_control_groups_the_kernel_limits_the_private_memory_of_a_worker() {
    let daemon = TestDaemon::start(WITHOUT_GROUPS);
    daemon
        .draw(&request("pocket-flux", 2, 1))
        .expect("its limit is no hindrance");
    let status = daemon.status();
    assert!(!status.workers.is_empty());
    for worker in &status.workers {
        let limit = data_limit(worker.pid.expect("it runs"));
        assert_eq!(limit, Some(expected_limit(worker)));
    }
}

#[test]
fn the_limit_of_private_memory_grows_with_the_reservation() {
    let _turn = turn::take();
    let settings = format!("{WITHOUT_GROUPS}{}", misbehaviours::settings(1));
    let daemon = TestDaemon::start_in(Sandbox::with_hostile_worker(&settings));
    let name = model("holds-more-than-it-says");
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| daemon.draw(&request(&name, 6, 9)));
        let grown = wait::until(Duration::from_secs(30), || {
            daemon.status().workers.iter().any(|worker| {
                worker.reserved_mb["host"] >= HELD_MB
                    && worker.pid.and_then(data_limit) == Some(expected_limit(worker))
            })
        });
        assert!(grown, "{:?}", daemon.status().workers);
        answer
            .join()
            .expect("one answer")
            .expect_err("it is silent");
    });
}
