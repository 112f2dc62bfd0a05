//! SIGSTOP of a worker: nothing ends and nothing goes on, and it is found all the same.

use nix::sys::signal::Signal;
use tests::daemon::Daemon;
use tests::job::{draw, request};
use tests::{processes, turn, wait};

const SETTINGS: &str = "[models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 40, load_ms = 1, weights_mb = 1 }\n";

#[test]
fn a_frozen_worker_is_found_and_its_job_ends_elsewhere() {
    let _turn = turn::take();
    let daemon = Daemon::start(SETTINGS);
    let wanted = request("syn", 20, 5);
    let undisturbed = daemon.draw(&wanted).expect("nobody disturbs it");
    let mut frozen = None;
    let (picture, took) = wait::timed(|| {
        draw(&mut daemon.client(), &wanted, |job, step| {
            if step == 6 && frozen.is_none() {
                frozen = daemon.worker_of(job).and_then(|worker| worker.pid);
                processes::signal(frozen.expect("it runs"), Signal::SIGSTOP);
            }
        })
    });
    let picture = picture.expect("it ends elsewhere");
    println!("found and drawn again in {took:?}");
    assert_eq!(picture.report.attempts, 2);
    assert!(picture.rgb8 == undisturbed.rgb8);
    let pids = daemon.worker_pids();
    assert!(!pids.contains(&frozen.expect("it was frozen")), "{pids:?}");
}
