//! The blame for a worker's end, seen by a client: not the request, if the cause came from outside.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::PictureSize;
use nix::sys::signal::Signal;
use serde_json::json;
use tests::daemon::TestDaemon;
use tests::job::{draw, request};
use tests::misbehaviours::{ONCE_MB, model, settings};
use tests::processes::signal;
use tests::sandbox::Sandbox;
use tests::turn;
use tests::wait;

/// One worker, so that a job that loses it waits for its replacement.
const ONE_WORKER: &str = "[pool]\ncold_start_workers = 1\nmax_workers_per_model = 1\n";
const STEPS: u32 = 8;

#[test]
fn a_job_whose_workers_are_killed_from_outside_six_times_is_drawn() {
    let settings = format!(
        "{ONE_WORKER}[models.syn]\nfamily = \"synthetic\"\n\
         params = {{ step_ms = 100, load_ms = 1, weights_mb = 1 }}\n"
    );
    let daemon = TestDaemon::start(&settings);
    let undisturbed = daemon.draw(&request("syn", STEPS, 5)).expect("a picture");
    let picture = draw(
        &mut daemon.client(),
        &request("syn", STEPS, 5),
        |job, step| {
            let worker = daemon.worker_of(job).and_then(|worker| worker.pid);
            if let Some(pid) = worker.filter(|_| step <= 6) {
                signal(pid, Signal::SIGKILL);
            }
        },
    );
    let picture = picture.expect("nobody here is to blame");
    assert!(picture.report.attempts > 2, "{:?}", picture.report);
    assert!(picture.rgb8 == undisturbed.rgb8, "another picture");
    // The request is let in again: it is not in quarantine, and the model is not broken.
    daemon.draw(&request("syn", STEPS, 6)).expect("a picture");
}

/// Steps of the requests whose workers crash, by which the test knows them.
const POISON_STEPS: u32 = 40;
const POISONS: usize = 3;
const GOODS: usize = 6;
const PATIENCE: Duration = Duration::from_secs(60);

fn prompted(prompt: &str, steps: u32) -> ImageRequest {
    ImageRequest {
        prompt: prompt.into(),
        size: Some(PictureSize {
            width: 256,
            height: 256,
        }),
        ..request("syn", steps, 5)
    }
}

/// Crashes the worker of each poison request before its first step until `done` answers are there. Returns the number
/// of crashes.
fn crash_until(daemon: &TestDaemon, done: impl Fn() -> bool) -> usize {
    let mut crashed = BTreeSet::new();
    let over = wait::until(PATIENCE, || {
        for worker in daemon.status().workers {
            let poison = worker.job.is_some_and(|job| job.steps == POISON_STEPS);
            if let Some(pid) = worker.pid.filter(|_| poison)
                && crashed.insert(pid)
            {
                // Not SIGSEGV: the handler of Rust's runtime lets a process survive the first one that is sent to it.
                signal(pid, Signal::SIGABRT);
            }
        }
        done()
    });
    assert!(over, "{} crashes and no end", crashed.len());
    crashed.len()
}

#[test]
fn requests_that_crash_their_workers_are_answered_422_and_cost_no_other_job_its_picture() {
    let _turn = turn::take();
    let settings = format!(
        "{ONE_WORKER}[models.syn]\nfamily = \"synthetic\"\n\
         params = {{ step_ms = 400, load_ms = 1, weights_mb = 1 }}\n"
    );
    let daemon = TestDaemon::start(&settings);
    let answered = AtomicUsize::new(0);
    let ask = |request: ImageRequest| {
        let answer = daemon.draw(&request);
        answered.fetch_add(1, Ordering::Relaxed);
        answer.map(|picture| picture.report.attempts)
    };
    let (crashes, poisons, goods) = thread::scope(|scope| {
        let poison = |nth| prompted(&format!("poison {nth}"), POISON_STEPS);
        let good = |nth| prompted(&format!("good {nth}"), 1);
        let poisons: Vec<_> = (0..POISONS)
            .map(|nth| scope.spawn(move || ask(poison(nth))))
            .collect();
        let goods: Vec<_> = (0..GOODS)
            .map(|nth| scope.spawn(move || ask(good(nth))))
            .collect();
        let all = POISONS + GOODS;
        let crashes = crash_until(&daemon, || answered.load(Ordering::Relaxed) == all);
        let answers = |asked: Vec<thread::ScopedJoinHandle<'_, Result<u32, Failure>>>| {
            let answers = asked
                .into_iter()
                .map(|asked| asked.join().expect("an answer"));
            answers.collect::<Vec<_>>()
        };
        (crashes, answers(poisons), answers(goods))
    });
    for good in goods {
        good.expect("a good job is drawn");
    }
    for poison in poisons {
        let failure = poison.expect_err("its workers crash");
        assert_eq!(failure.kind, FailureKind::Quarantined, "{failure}");
    }
    assert_eq!(crashes, 2 * POISONS);
    let body =
        json!({"model": "syn", "prompt": "poison 0", "steps": POISON_STEPS, "size": "256x256"});
    let reply = daemon.http().post("/v1/images/generations", &body);
    assert_eq!(reply.status, 422, "{}", reply.text());
    daemon.draw(&prompted("another", 1)).expect("a picture");
}

#[test]
fn crashes_at_different_steps_leave_a_request_free() {
    let settings = format!(
        "{ONE_WORKER}[models.syn]\nfamily = \"synthetic\"\n\
         params = {{ step_ms = 100, load_ms = 1, weights_mb = 1 }}\n"
    );
    let daemon = TestDaemon::start(&settings);
    let signals = [
        Signal::SIGABRT,
        Signal::SIGFPE,
        Signal::SIGSEGV,
        Signal::SIGBUS,
    ];
    let picture = draw(
        &mut daemon.client(),
        &request("syn", STEPS, 5),
        |job, step| {
            let worker = daemon.worker_of(job).and_then(|worker| worker.pid);
            let struck = signals.get(step as usize / 2).filter(|_| step % 2 == 1);
            if let (Some(pid), Some(struck)) = (worker, struck) {
                signal(pid, *struck);
            }
        },
    );
    let picture = picture.expect("it got further each time");
    assert!(picture.report.attempts > 2, "{:?}", picture.report);
    daemon.draw(&request("syn", STEPS, 6)).expect("a picture");
}

#[test]
fn a_worker_that_sleeps_in_its_first_step_is_replaced_within_the_time_limit() {
    let _turn = turn::take();
    let settings = format!("{ONE_WORKER}{}", settings(ONCE_MB));
    let daemon = TestDaemon::start_in(Sandbox::with_hostile_worker(&settings));
    let mut request = request(&model("sleeps-while-drawing"), STEPS, 5);
    request.timeout_ms = Some(60_000);
    let picture = daemon.draw(&request).expect("another worker draws it");
    assert_eq!(picture.report.attempts, 2);
}
