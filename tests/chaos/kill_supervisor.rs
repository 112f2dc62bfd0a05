//! SIGKILL of the supervisor: its workers are gone within a second, and no job is lost.
//!
//! Its files go with the next start.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tests::census::segments_of;
use tests::chance::Chance;
use tests::daemon::TestDaemon;
use tests::program::PATIENCE;
use tests::sandbox::Sandbox;
use tests::times::SortedTimes;
use tests::{rounds, turn, wait};

/// Workers may outlive their supervisor by this much.
const GRACE: Duration = Duration::from_secs(1);
/// Until then everything has been spawned, loaded and drawn once.
const BUSY: Duration = Duration::from_millis(600);

fn settings(segment: &str) -> String {
    let model = |key: &str, load_ms: u32| {
        format!(
            "[models.{key}]\nfamily = \"synthetic\"\nparams = {{ step_ms = 50, load_ms = {load_ms}, weights_mb = 4 }}\n"
        )
    };
    format!(
        "segment = \"{segment}\"\n{}{}{}",
        model("a", 1),
        model("b", 150),
        model("c", 300)
    )
}

#[test]
fn nothing_outlives_a_killed_supervisor_with_sealed_segments() {
    kill_again_and_again("sealed", 1);
}

#[test]
fn nothing_outlives_a_killed_supervisor_with_named_segments() {
    kill_again_and_again("named", 2);
}

fn kill_again_and_again(segment: &str, seed: u64) {
    let _turn = turn::take();
    let mut chance = Chance::new(seed);
    let rounds = rounds::rounds(&format!("supervisors killed, {segment} segments"), 10);
    let mut sandbox = Arc::new(Sandbox::new(&settings(segment)));
    let mut left_behind = 0;
    let mut during_spawn = 0;
    for round in 0..rounds {
        let daemon = TestDaemon::start_in(Arc::clone(&sandbox));
        let pid = daemon.pid();
        // By its socket: a command that comes too late for this daemon must not start a pool of its own.
        let socket = sandbox.socket().display().to_string();
        let calls = ["a", "b", "c"].map(|model| {
            let arguments = ["generate", "any", "-m", model, "--steps", "1000", "-o", "-"];
            let reach = ["--socket", &socket, "--reconnect", "0"];
            daemon.imagepool_begun(&[&reach[..], &arguments[..]].concat())
        });
        // Every other time in the middle of the spawns, else at any moment of their lives.
        if round % 2 == 0 {
            let spawns = 1 + chance.below(6) as usize;
            daemon.stderr.wait_for("Spawned worker", spawns, PATIENCE);
            during_spawn += 1;
        } else {
            wait::moments_of_chance(chance.moment(BUSY));
        }
        sandbox = daemon.kill(GRACE);
        left_behind += segments_of(&[pid]).len();
        for call in calls {
            call.output().ended_with(7);
        }
        assert_next_start_is_clean(&sandbox, pid);
    }
    println!("{during_spawn} of them among spawns; {left_behind} names were left and swept");
}

/// A start after a kill leaves what a first start leaves: the lock and the sockets.
fn assert_next_start_is_clean(sandbox: &Arc<Sandbox>, killed: u32) {
    let daemon = TestDaemon::start_in(Arc::clone(sandbox));
    let census = sandbox.census(&[killed, daemon.pid()]);
    let sockets = ["http.sock".into(), "pool.sock".into()];
    assert_eq!(
        census.runtime,
        sockets.into_iter().chain(["lock".into()]).collect()
    );
    assert_eq!(census.segments, [].into());
    daemon.imagepool(&["shutdown"]).succeeded();
    assert_eq!(sandbox.census(&[]).runtime, ["lock".into()].into());
}

/// Models of the storm, and how long their pictures take.
const STORM: &str = "[pool]\nqueue_per_model = 200\n\
    [models.quick]\nfamily = \"synthetic\"\nparams = { step_ms = 5, load_ms = 1, weights_mb = 1 }\n\
    [models.slow]\nfamily = \"synthetic\"\nparams = { step_ms = 20, load_ms = 20, weights_mb = 2 }\n";
/// Requests of the storm: model, steps and seed.
const WANTED: [(&str, &str, &str); 4] = [
    ("quick", "3", "1"),
    ("quick", "40", "2"),
    ("slow", "10", "3"),
    ("slow", "60", "4"),
];
/// Detached requests that are sent to each daemon.
const DETACHED_A_ROUND: u64 = 3;
/// Jobs that wait, at which no further ones are sent.
const WAITING_MAX: usize = 40;
/// A daemon of the storm lives up to this long.
const LIFE: Duration = Duration::from_millis(900);

/// A client that waits: the request, its file and the command.
type AttachedCall = (usize, String, tests::program::Call);

#[test]
fn no_job_is_lost_however_often_the_supervisor_is_killed() {
    let _turn = turn::take();
    let mut chance = Chance::new(3);
    let seconds = rounds::seconds("supervisors killed under detached and attached jobs", 8);
    let mut daemon = TestDaemon::start(STORM);
    let picture = |daemon: &TestDaemon, file: &str| {
        fs::read(daemon.sandbox.pictures().join(file)).expect("it was written")
    };
    let undisturbed: Vec<Vec<u8>> = (0..WANTED.len())
        .map(|nth| {
            let file = format!("whole-{nth}.png");
            draw(&daemon, nth, &file).output().succeeded();
            picture(&daemon, &file)
        })
        .collect();
    let began = wait::Stopwatch::start();
    let mut detached: BTreeMap<String, usize> = BTreeMap::new();
    let mut attached: Vec<AttachedCall> = Vec::new();
    let mut kills = 0;
    let (mut gone, mut listening) = (Vec::new(), Vec::new());
    while began.passed() < Duration::from_secs(seconds) {
        // On a slow machine more is asked for than is drawn between two kills. Clients may be on their way to this daemon.
        let running = attached.iter_mut().map(|(_, _, call)| call.is_running());
        let on_their_way = running.filter(|is_running| *is_running).count();
        let has_room = daemon.status().queue.len() + on_their_way < WAITING_MAX;
        if has_room {
            // One client begins now, and may live through several daemons.
            let wanted = chance.below(WANTED.len() as u64) as usize;
            let file = format!("attached-{}.png", attached.len());
            attached.push((wanted, file.clone(), draw(&daemon, wanted, &file)));
        }
        let more = chance.below(DETACHED_A_ROUND + 1) * u64::from(has_room);
        for _ in 0..more {
            let wanted = chance.below(WANTED.len() as u64) as usize;
            let (model, steps, seed) = WANTED[wanted];
            let arguments = [
                "generate", "any", "--detach", "-m", model, "--steps", steps, "--seed", seed,
            ];
            let accepted = daemon.imagepool(&arguments).succeeded().text();
            let job = accepted.trim().to_owned();
            assert_eq!(detached.insert(job, wanted), None, "an id is used twice");
        }
        wait::moments_of_chance(chance.moment(LIFE));
        let (sandbox, went) = daemon.kill_timed(GRACE);
        kills += 1;
        gone.push(went);
        let (next, passed) = wait::timed(|| TestDaemon::start_in(sandbox));
        daemon = next;
        listening.push(passed);
    }
    let attached_count = attached.len();
    let mut served_through = 0;
    for (wanted, file, call) in attached {
        let output = call.output().succeeded();
        served_through += u64::from(output.stderr.contains("the daemon ended"));
        assert!(picture(&daemon, &file) == undisturbed[wanted], "{file}");
    }
    for (job, wanted) in &detached {
        let arguments = ["wait", job, "-f", "-o", "detached.png"];
        daemon.imagepool(&arguments).succeeded();
        let same = picture(&daemon, "detached.png") == undisturbed[*wanted];
        assert!(same, "job {job}");
    }
    println!(
        "{kills} kills, {} detached and {attached_count} attached jobs, 0 lost; {served_through} clients were told of a restart",
        detached.len()
    );
    for (what, times) in [("workers gone", gone), ("listening again", listening)] {
        println!("{what} after {}", SortedTimes::from_iter(times));
    }
}

/// A client that waits for its picture, through restarts of the daemon.
fn draw(daemon: &TestDaemon, wanted: usize, file: &str) -> tests::program::Call {
    let (model, steps, seed) = WANTED[wanted];
    let socket = daemon.sandbox.socket().display().to_string();
    daemon.imagepool_begun(&[
        "--socket", &socket, "generate", "any", "-m", model, "--steps", steps, "--seed", seed,
        "-o", file,
    ])
}
