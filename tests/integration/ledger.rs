//! Memory that was promised is given back to the last mebibyte, however often.

use std::time::Duration;

use tests::daemon::TestDaemon;
use tests::job::{self, request};
use tests::{turn, wait};

const CYCLES: u64 = 200;
const PATIENCE: Duration = Duration::from_secs(30);

fn settings(limit_mb: u64) -> String {
    let model = "family = \"synthetic\"\nparams = { step_ms = 1, load_ms = 1, weights_mb = 64 }\n";
    format!(
        "[memory]\nhost_limit_mb = {limit_mb}\n[pool]\nidle_seconds = 1\n\
         [models.left]\n{model}[models.right]\n{model}"
    )
}

#[test]
fn two_hundred_workers_that_made_room_for_each_other_leave_empty_books() {
    let _turn = turn::take();
    let need = {
        let status = TestDaemon::start(&settings(100_000)).status();
        let left = status
            .models
            .into_iter()
            .find(|model| model.key.as_str() == "left");
        left.expect("it is in the settings").need_mb
    };
    let daemon = TestDaemon::start(&settings(need + need / 2));
    let mut client = daemon.client();
    for cycle in 0..=CYCLES {
        let model = ["left", "right"][cycle as usize % 2];
        let drawn = job::draw(&mut client, &request(model, 1, cycle), |_, _| {});
        drawn.expect("the other model makes room");
    }
    let gone = wait::until(PATIENCE, || daemon.status().workers.is_empty());
    let status = daemon.status();
    assert!(gone, "{status:?}");
    println!("{:?}", status.counters);
    assert_eq!(status.counters.evictions, CYCLES);
    assert_eq!(status.counters.spawns, CYCLES + 1);
    assert_eq!(status.counters.exits, CYCLES + 1);
    for book in &status.memory {
        assert_eq!((book.reserved_mb, book.settling_mb), (0, 0), "{book:?}");
    }
}
