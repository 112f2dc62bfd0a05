//! A user who floods the pool waits; the other users hardly do.

use ipc_protocol::ids::JobId;
use ipc_protocol::request::ImageRequest;
use nix::unistd::geteuid;
use pool::{Action, Event};
use tests::daemon::TestDaemon;
use tests::job::request;
use tests::record::Decision;
use tests::turn;

const FLOOD: u64 = 500;

#[test]
fn a_victim_starts_after_the_running_job_and_one_of_each_other_user() {
    let _turn = turn::take();
    // Clients of the daemon's own user, which each have a share of their own.
    let own = format!("uid:{}", geteuid());
    let daemon = TestDaemon::start_recorded(
        "[pool]\nqueue_per_model = 1000\nmax_workers_per_model = 1\ndrain_seconds = 0\n\
         [models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 20, load_ms = 1, weights_mb = 1 }\n",
    );
    for number in 0..FLOOD {
        let wanted = ImageRequest {
            detached: true,
            user: Some(format!(
                "{own}/{}",
                ["flood", "other"][usize::from(number % 10 == 0)]
            )),
            ..request("syn", 1, number)
        };
        // A connection each: nobody reads what becomes of it.
        let mut client = daemon.client();
        client.generate(&wanted).expect("there is a place for it");
    }
    let victim_user = format!("{own}/victim");
    let asked = format!("generate a -m syn --steps 1 --json -o v.png --as {victim_user}");
    let output = daemon
        .imagepool(&asked.split(' ').collect::<Vec<_>>())
        .succeeded();
    let victim = output.json()[0]["job"].as_u64().expect("a number");
    assert_eq!(victim, FLOOD + 1, "the flood was there before");

    let decisions = daemon.recorded().decisions();
    let arrived = decisions
        .iter()
        .position(|decided| matches!(&decided.happened.event, Event::RequestArrived { user, .. } if *user == victim_user))
        .expect("it was recorded");
    let left = FLOOD as usize - runs(&decisions[..arrived]).len();
    assert!(left > 100, "only {left} of the flood still waited");
    let after = runs(&decisions[arrived..]);
    let place = after.iter().position(|job| *job == JobId(victim));
    let place = place.expect("it ran");
    println!("{left} waited before it, {place} of them ran before it");
    assert!(place <= 2, "{place} jobs of two users went before it");
}

/// The jobs that were given to workers, in order.
fn runs(decisions: &[Decision]) -> Vec<JobId> {
    let actions = decisions.iter().flat_map(|decided| &decided.actions);
    actions
        .filter_map(|action| match action {
            Action::Run(run) => Some(run.job),
            _ => None,
        })
        .collect()
}
