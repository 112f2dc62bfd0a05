//! Workers without work leave one by one, and the budget is empty after the last.

use std::thread;
use std::time::Duration;

use pool::{Action, Moment, Notice, StopReason};
use tests::daemon::TestDaemon;
use tests::job::{self, request};
use tests::{turn, wait};

const IDLE: Duration = Duration::from_millis(600);
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn idle_workers_leave_one_per_idle_seconds_and_the_books_return_to_nothing() {
    let _turn = turn::take();
    let daemon = TestDaemon::start_recorded(&format!(
        "[pool]\ncold_start_workers = 3\nidle_seconds = {}\n\
         [models.syn]\nfamily = \"synthetic\"\nparams = {{ step_ms = 20, load_ms = 1, weights_mb = 8 }}\n",
        IDLE.as_secs_f64()
    ));
    thread::scope(|scope| {
        for seed in 0..6 {
            let mut client = daemon.client();
            scope.spawn(move || job::draw(&mut client, &request("syn", 5, seed), |_, _| {}));
        }
    });
    assert_eq!(daemon.status().workers.len(), 3);
    let gone = wait::until(PATIENCE, || daemon.status().workers.is_empty());
    let status = daemon.status();
    assert!(gone, "{status:?}");
    assert!(
        status
            .memory
            .iter()
            .all(|book| book.reserved_mb == 0 && book.settling_mb == 0)
    );
    assert_eq!((status.counters.spawns, status.counters.exits), (3, 3));

    let decisions = daemon.recorded().decisions();
    let of = |wanted: fn(&Action) -> bool| -> Vec<Moment> {
        let told = decisions
            .iter()
            .filter(|decided| decided.actions.iter().any(wanted));
        told.map(|decided| decided.happened.at).collect()
    };
    let left = of(|action| {
        matches!(
            action,
            Action::Tell(Notice::Stopping {
                why: StopReason::Idle,
                ..
            })
        )
    });
    let answered = of(|action| matches!(action, Action::Answer { .. }));
    let last = *answered.last().expect("six were drawn");
    let waits: Vec<Duration> = [&[last], &left[..]]
        .concat()
        .windows(2)
        .map(|pair| pair[1].since(pair[0]))
        .collect();
    println!("{waits:?}");
    assert_eq!(waits.len(), 3);
    let bounds = IDLE..IDLE + Duration::from_secs(2);
    assert!(waits.iter().all(|wait| bounds.contains(wait)), "{waits:?}");
}
