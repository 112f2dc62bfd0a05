//! SIGKILL of a command with a private pool, and of that pool: no process and no file is left.

use std::time::Duration;

use nix::sys::signal::Signal;
use tests::census::segments_of;
use tests::chance::Chance;
use tests::sandbox::Sandbox;
use tests::{processes, rounds, turn, wait};

const GRACE: Duration = Duration::from_secs(1);
/// Until then the pool is up and its first job runs.
const BUSY: Duration = Duration::from_millis(700);

#[test]
fn a_killed_command_takes_its_private_pool_with_it_sealed() {
    kill_again_and_again("sealed", 3);
}

#[test]
fn a_killed_command_takes_its_private_pool_with_it_named() {
    kill_again_and_again("named", 4);
}

fn kill_again_and_again(segment: &str, seed: u64) {
    let _turn = turn::take();
    let mut chance = Chance::new(seed);
    let sandbox = Sandbox::new(&format!(
        "segment = \"{segment}\"\ndefault_model = \"syn\"\n[models.syn]\nfamily = \"synthetic\"\nparams = {{ step_ms = 20, load_ms = 100, weights_mb = 4 }}\n"
    ));
    sandbox
        .imagepool(&["generate", "any", "-f", "-o", "a.png"])
        .succeeded();
    let before = sandbox.census(&[]);
    for round in 0..rounds::rounds(&format!("private pools killed, {segment} segments"), 8) {
        let mut call = sandbox.imagepool_begun(&["generate", "any", "--steps", "1000", "-o", "-"]);
        wait::moments_of_chance(chance.moment(BUSY));
        let pool: Vec<u32> = pool_pids(&sandbox);
        call.signal(Signal::SIGKILL);
        // Every other time its pool goes too, so that nobody is left to clear the folder.
        if round % 2 == 1 {
            for pid in &pool {
                processes::signal(*pid, Signal::SIGKILL);
            }
        }
        call.output().ended_with(128 + 9);
        let gone = wait::until(GRACE, || sandbox.processes().is_empty());
        assert!(gone, "a second later: {:?}", sandbox.processes());
        sandbox
            .imagepool(&["generate", "any", "-f", "-o", "a.png"])
            .succeeded();
        assert_eq!(sandbox.census(&[]), before);
        assert_eq!(segments_of(&pool), [].into());
    }
}

fn pool_pids(sandbox: &Sandbox) -> Vec<u32> {
    let program = sandbox.binaries().supervisor().display().to_string();
    sandbox
        .processes()
        .into_iter()
        .filter(|process| process.arguments.first() == Some(&program))
        .map(|process| process.pid)
        .collect()
}
