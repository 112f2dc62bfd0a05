//! Two models and room for one: jobs of one model are drawn together, and no job waits without end.

use std::time::Duration;

use ipc_protocol::request::ImageRequest;
use serde_json::Value;
use tests::daemon::TestDaemon;
use tests::job::request;
use tests::{turn, wait};

const JOBS: u64 = 40;
const PATIENCE: Duration = Duration::from_secs(60);

/// Two models of which one fits, and 40 jobs that ask for them in turn.
fn alternating(fifo: bool) -> Value {
    let need = need_mb();
    let daemon = TestDaemon::start(&settings(need + need / 2, fifo));
    for number in 0..JOBS {
        let model = ["left", "right"][number as usize % 2];
        let wanted = ImageRequest {
            detached: true,
            ..request(model, 1, number)
        };
        // A connection each: nobody reads what becomes of it.
        let mut client = daemon.client();
        client.generate(&wanted).expect("there is a place for it");
    }
    let done = wait::until(PATIENCE, || daemon.status().queue.is_empty());
    assert!(done, "{:?}", daemon.status());
    let status = daemon.imagepool(&["status", "--json"]).succeeded().json();
    let drawn: u64 = daemon.stderr.with("Spawned worker").len() as u64;
    let counters = status[0]["counters"].clone();
    assert_eq!(counters["spawns"], drawn);
    counters
}

fn settings(limit_mb: u64, fifo: bool) -> String {
    let model = "family = \"synthetic\"\nparams = { step_ms = 1, load_ms = 1, weights_mb = 64 }\n";
    format!(
        "[memory]\nhost_limit_mb = {limit_mb}\n[pool]\nfifo = {fifo}\nqueue_per_model = 40\n\
         [models.left]\n{model}[models.right]\n{model}"
    )
}

fn need_mb() -> u64 {
    let status = TestDaemon::start(&settings(100_000, false)).status();
    let left = status
        .models
        .iter()
        .find(|model| model.key.as_str() == "left");
    left.expect("it is in the settings").need_mb
}

#[test]
fn forty_jobs_that_alternate_between_two_models_cost_ten_swaps_at_most() {
    let _turn = turn::take();
    let counters = alternating(false);
    let number = |name: &str| counters[name].as_u64().expect("a whole number");
    println!("{counters}");
    assert!(number("swaps") <= 10, "{counters}");
    assert!(number("swaps") >= 1, "{counters}");
    assert!((1..=8).contains(&number("overtakes_max")), "{counters}");
}

#[test]
fn in_strict_order_of_arrival_they_cost_a_swap_each() {
    let _turn = turn::take();
    let counters = alternating(true);
    println!("{counters}");
    assert_eq!(counters["swaps"], JOBS - 1, "{counters}");
}
