//! SIGKILL of the supervisor: its workers are gone within a second, its files with the next start.

use std::sync::Arc;
use std::time::Duration;

use tests::census::segments_of;
use tests::chance::Chance;
use tests::daemon::TestDaemon;
use tests::program::PATIENCE;
use tests::sandbox::Sandbox;
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
            daemon.imagepool_begun(&[&["--socket", &socket], &arguments[..]].concat())
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
