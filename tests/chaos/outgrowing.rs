//! A worker that holds more memory than was reserved for it and than it says.

use std::thread;
use std::time::Duration;

use tests::daemon::TestDaemon;
use tests::job::request;
use tests::misbehaviours::{HELD_MB, model, settings};
use tests::sandbox::Sandbox;
use tests::{turn, wait};

const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_worker_that_outgrows_its_reservation_is_measured_booked_and_warned_about() {
    let _turn = turn::take();
    let daemon = TestDaemon::start_in(Sandbox::with_hostile_worker(&settings(1)));
    let name = model("holds-more-than-it-says");
    let measured = || {
        let workers = daemon.status().workers;
        let ours = workers.iter().filter(|it| it.model.as_str() == name);
        ours.filter_map(|it| it.measured_mb).max().unwrap_or(0)
    };
    let booked = || {
        let memory = daemon.status().memory;
        let host = memory.iter().find(|it| it.device == "host");
        host.map_or(0, |it| it.reserved_mb)
    };
    thread::scope(|scope| {
        let answer = scope.spawn(|| daemon.draw(&request(&name, 6, 9)));
        let seen = wait::until(SOON, || measured() >= HELD_MB);
        assert!(seen, "{} MiB measured", measured());
        assert!(booked() >= HELD_MB, "{} MiB reserved", booked());
        let warning = "Worker uses more memory than it has reserved";
        daemon.stderr.wait_for(warning, 1, SOON);
        answer
            .join()
            .expect("one answer")
            .expect_err("it is silent");
    });
}
