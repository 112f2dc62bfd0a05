//! One poisoned request among good ones, sent again and again while workers are killed from outside.
//!
//! It costs two workers, and other clients nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ipc_protocol::client::Picture;
use ipc_protocol::failure::Failure;
use ipc_protocol::request::ImageRequest;
use nix::sys::signal::Signal;
use serde_json::json;
use tests::chance::Chance;
use tests::daemon::TestDaemon;
use tests::http::{HttpClient, HttpReply};
use tests::job::draw;
use tests::sandbox::Sandbox;
use tests::storm::{POISON, POISONED_STEP_MS, POISONED_STEPS_MAX};
use tests::{processes, rounds, turn, wait};

use super::field::{WANTED, wanted};

const MODELS: u64 = 4;
const CLIENTS: u64 = 8;
/// Good requests for each poisoned one.
const GOOD: u64 = 50;
/// Between two kills, at most.
const PAUSE: Duration = Duration::from_millis(200);

fn settings() -> String {
    let model = |nth| {
        format!(
            "[models.fed-{nth}]\nfamily = \"synthetic\"\nmin_workers = 2\nmax_workers = 2\n\
             params = {{ step_ms = {POISONED_STEP_MS}, load_ms = {}, weights_mb = 1 }}\n",
            nth + 1
        )
    };
    let models: String = (0..MODELS).map(model).collect();
    format!("[pool]\nqueue_per_model = 64\n{models}")
}

/// The poisoned request over HTTP; the same each time but for its seed, which does not change what a request is.
fn poisoned(daemon: &TestDaemon, seed: u64) -> HttpReply {
    let socket = daemon.sandbox.runtime_dir().join("http.sock");
    let body = json!({
        "prompt": format!("a glass of {POISON}"), "model": "fed-0", "steps": 4, "size": "64x64", "seed": seed,
    });
    HttpClient::unix(socket).post("/v1/images/generations", &body)
}

/// A good request, and what came of it.
fn good(daemon: &TestDaemon, nth: u64) -> Result<Picture, Failure> {
    let model = format!("fed-{}", nth % MODELS);
    let request = ImageRequest {
        prompt: format!("a glass of water {nth}"),
        steps: Some(1 + (nth % u64::from(POISONED_STEPS_MAX)) as u32),
        ..wanted(&model, nth as usize % WANTED)
    };
    draw(&mut daemon.client(), &request, |_, _| {})
}

#[test]
fn a_poisoned_request_costs_two_workers_however_often_it_is_sent() {
    let _turn = turn::take();
    let poison = u64::from(rounds::rounds("one poisoned request among good ones", 8));
    let daemon = TestDaemon::start_in(Sandbox::with_hostile_worker(&settings()));
    let known: Vec<Vec<u8>> = (0..WANTED as u64)
        .map(|nth| good(&daemon, nth).expect("an undisturbed job").rgb8)
        .collect();
    let (next, drawn, kills) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let all = poison * GOOD;
    let began = wait::Stopwatch::start();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    if nth >= all {
                        break;
                    }
                    let picture = good(&daemon, nth).unwrap_or_else(|failure| {
                        // The others end too.
                        next.store(all, Ordering::Relaxed);
                        panic!("good job {nth}: {failure}")
                    });
                    assert!(picture.rgb8 == known[nth as usize % WANTED], "other bytes");
                    drawn.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            let mut chance = Chance::new(31);
            while next.load(Ordering::Relaxed) < all {
                wait::moments_of_chance(chance.moment(PAUSE));
                let pids = daemon.worker_pids();
                let nth = chance.below(pids.len().max(1) as u64) as usize;
                let struck = pids
                    .get(nth)
                    .map(|pid| processes::signal(*pid, Signal::SIGKILL));
                kills.fetch_add(u64::from(struck.is_some()), Ordering::Relaxed);
            }
        });
        for seed in 0..poison {
            let due = || drawn.load(Ordering::Relaxed) >= seed * GOOD / 2;
            assert!(
                wait::until(tests::program::PATIENCE, due),
                "good jobs go on"
            );
            let reply = poisoned(&daemon, seed);
            let text = String::from_utf8_lossy(&reply.body).into_owned();
            assert_eq!(reply.status, 422, "poison {seed}: {text}");
            assert!(text.contains("quarantine"), "{text}");
        }
    });
    let died = daemon.stderr.with("Worker died");
    let of_poison = died.iter().filter(|line| line.contains("reason=crashed"));
    let of_poison: Vec<&String> = of_poison.collect();
    println!(
        "{poison} times poison: 422 each, {} workers died of it; {} of {all} good jobs drawn in {:?} under {} kills",
        of_poison.len(),
        drawn.load(Ordering::Relaxed),
        began.passed(),
        kills.load(Ordering::Relaxed),
    );
    assert_eq!(drawn.into_inner(), all);
    assert!((1..=2).contains(&of_poison.len()), "{of_poison:#?}");
    let listed = daemon.imagepool(&["quarantine", "list"]).succeeded().text();
    assert!(listed.contains(POISON), "{listed}");
}
