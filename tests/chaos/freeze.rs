//! SIGSTOP of a worker: it neither ends nor progresses, and is detected all the same. SIGSTOP of the
//! supervisor: nothing happens, and nobody is blamed for it.

use std::time::Duration;

use nix::sys::signal::Signal;
use tests::daemon::TestDaemon;
use tests::job::{draw, request};
use tests::{processes, turn, wait};

const SETTINGS: &str = "[models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 40, load_ms = 1, weights_mb = 1 }\n";

#[test]
fn a_frozen_worker_is_found_and_its_job_ends_elsewhere() {
    let _turn = turn::take();
    let daemon = TestDaemon::start(SETTINGS);
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

/// Longer than a worker may be silent, or without progress.
const STOPPED: Duration = Duration::from_secs(8);

/// Stops the supervisor in the middle of a job, and its workers too where `all` says so. Nobody is to be blamed.
fn a_stopped_supervisor_blames_nobody(all: bool) {
    let _turn = turn::take();
    let daemon = TestDaemon::start(SETTINGS);
    let wanted = request("syn", 400, 5);
    daemon.draw(&request("syn", 1, 1)).expect("a good request");
    let before = daemon.worker_pids();
    let mut stopped = vec![daemon.pid()];
    if all {
        stopped.extend(&before);
    }
    let picture = draw(&mut daemon.client(), &wanted, |_, step| {
        if step == 20 {
            for signal in [Signal::SIGSTOP, Signal::SIGCONT] {
                stopped
                    .iter()
                    .for_each(|pid| processes::signal(*pid, signal));
                if signal == Signal::SIGSTOP {
                    wait::moments_of_chance(STOPPED);
                }
            }
        }
    });
    let picture = picture.expect("nobody was at fault");
    assert_eq!(picture.report.attempts, 1, "{:?}", daemon.stderr.all());
    assert_eq!(daemon.worker_pids(), before);
}

#[test]
fn a_stopped_supervisor_takes_no_worker_for_silent() {
    a_stopped_supervisor_blames_nobody(false);
}

#[test]
fn a_service_that_was_stopped_as_a_whole_goes_on_where_it_was() {
    a_stopped_supervisor_blames_nobody(true);
}
