//! Workers are killed from outside, again and again, while clients draw: no picture is lost or wrong.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ipc_protocol::request::ImageRequest;
use nix::sys::signal::Signal;
use tests::chance::Chance;
use tests::daemon::TestDaemon;
use tests::job::request;
use tests::program::PATIENCE;
use tests::{processes, rounds, turn, wait};

const SETTINGS: &str = "[pool]\nqueue_per_model = 64\n\
    [models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 40, load_ms = 20, weights_mb = 1 }\n\
    [models.pocket-flux]\nthreads = 1\nmax_workers = 2\n";
const CLIENTS: usize = 7;
/// Pause between two kills, in milliseconds: one to two kills a second.
const PAUSE_MS: std::ops::RangeInclusive<u64> = 500..=1000;

/// Returns the clients' requests, in turn: jobs longer than the time between two kills among them.
fn requests() -> Vec<ImageRequest> {
    let synthetic = |seed| request("syn", 10 + 10 * seed as u32, seed);
    let pocket = |seed| request("pocket-flux", 4 + 8 * seed as u32, seed);
    (0..4).map(synthetic).chain((0..2).map(pocket)).collect()
}

#[test]
fn kills_from_outside_lose_no_picture_and_quarantine_no_request() {
    let _turn = turn::take();
    let seconds = rounds::seconds("workers killed from outside", 12);
    let daemon = TestDaemon::start(SETTINGS);
    let wanted = requests();
    let undisturbed: Vec<_> = wanted
        .iter()
        .map(|wanted| daemon.draw(wanted).expect("nobody disturbs it").rgb8)
        .collect();
    let (over, drawn, resumed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let kills = thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (daemon, wanted, undisturbed) = (&daemon, &wanted, &undisturbed);
            let (over, drawn, resumed) = (&over, &drawn, &resumed);
            scope.spawn(move || {
                for nth in (client..).take_while(|_| !over.load(Ordering::Relaxed)) {
                    let nth = nth % wanted.len();
                    let picture = daemon.draw(&wanted[nth]).expect("an accepted job is drawn");
                    assert!(
                        picture.rgb8 == undisturbed[nth],
                        "{:?}: other bytes",
                        wanted[nth]
                    );
                    drawn.fetch_add(1, Ordering::Relaxed);
                    resumed.fetch_add(u64::from(picture.report.attempts > 1), Ordering::Relaxed);
                }
            });
        }
        let kills = kill_for(&daemon, Duration::from_secs(seconds));
        over.store(true, Ordering::Relaxed);
        kills
    });
    let (drawn, resumed) = (drawn.into_inner(), resumed.into_inner());
    println!("{kills} kills, {drawn} pictures, {resumed} of them after a kill");
    assert!(kills >= seconds / 2 && resumed > 0 && drawn > resumed / 2);
    let quarantined = daemon.imagepool(&["quarantine", "list"]).succeeded();
    assert!(quarantined.stdout.is_empty(), "{quarantined:?}");
    assert_eq!(daemon.status().supervisor.pid, daemon.pid());
}

/// Kills a worker of chance now and then; returns how many were killed.
fn kill_for(daemon: &TestDaemon, length: Duration) -> u64 {
    let mut chance = Chance::new(11);
    let (mut kills, mut passed) = (0, Duration::ZERO);
    while passed < length {
        let pause = PAUSE_MS.start() + chance.below(PAUSE_MS.end() - PAUSE_MS.start() + 1);
        let ((), took) = wait::timed(|| wait::moments_of_chance(Duration::from_millis(pause)));
        passed += took;
        let pids = wait::until_found(PATIENCE, || {
            let pids = daemon.worker_pids();
            (!pids.is_empty()).then_some(pids)
        });
        let pids = pids.expect("killed workers are replaced");
        processes::signal(
            pids[chance.below(pids.len() as u64) as usize],
            Signal::SIGKILL,
        );
        kills += 1;
    }
    kills
}
