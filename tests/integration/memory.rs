//! The budget decides how many workers there are, and says no with the arithmetic.

use std::time::Duration;

use ipc_protocol::failure::FailureKind;
use tests::daemon::TestDaemon;
use tests::job::request;
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
