//! The blame for a worker's end, seen by a client: not the request, if the cause came from outside.

use nix::sys::signal::Signal;
use tests::daemon::TestDaemon;
use tests::job::{draw, request};
use tests::misbehaviours::{ONCE_MB, model, settings};
use tests::processes::signal;
use tests::sandbox::Sandbox;
use tests::turn;

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
