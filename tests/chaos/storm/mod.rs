//! The storm: workers die in every way, at every point of their lives, of many models at once. No job is lost, no byte is
//! wrong, no good request is refused, no other model notices, and nothing is left.

mod clients;
mod field;
mod poison;
mod strikes;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tests::census::FullCensus;
use tests::daemon::TestDaemon;
use tests::program::PATIENCE;
use tests::sandbox::Sandbox;
use tests::times::SortedTimes;
use tests::{rounds, turn, wait};

use field::{ATTACHED, MODELS, StormField, WORKERS, WORKERS_BESIDE, settings};
use strikes::{SmallGroup, StrikeTally};

/// Memory that the daemon may have gained: tables and buffers at the size of the storm.
const GAINED_KIB_MAX: u64 = 24 * 1024;
/// Threads of the runtime that may be there for work on files.
const GAINED_THREADS_MAX: u64 = 4;
/// Threads that strike at random.
const STRIKERS: u64 = 2;
/// Until the model that is never struck has shown what its pictures take.
const QUIET: Duration = Duration::from_secs(5);

#[test]
fn workers_of_many_models_die_in_every_way_and_no_client_notices() {
    let _turn = turn::take();
    let length = Duration::from_secs(rounds::seconds("the storm", 20));
    let daemon = TestDaemon::start_in(Sandbox::with_hostile_worker(&settings("")));
    let all = MODELS * WORKERS + WORKERS_BESIDE;
    let group = SmallGroup::make(&daemon.sandbox.home());
    match &group {
        Ok(_) => println!("a control group with little memory is there"),
        Err(why) => println!("SKIPPED: kills by the kernel for lack of memory: {why}"),
    }
    let field = StormField::new(&daemon);
    let before = at_rest(&daemon, all);
    let quiet = wait::Stopwatch::start();
    let calm = clients::undisturbed(&field, || quiet.passed() > QUIET);
    let (tally, exits) = (StrikeTally::default(), daemon.status().counters.exits);
    let stormy = thread::scope(|scope| {
        let _ends = wait::EndsOnDrop(&field.over);
        for model in 0..MODELS {
            for client in 0..ATTACHED {
                let (field, tally) = (&field, &tally);
                scope.spawn(move || clients::attached(field, tally, model, client));
            }
        }
        scope.spawn(|| clients::detached(&field));
        scope.spawn(|| clients::over_http(&field));
        scope.spawn(|| clients::resting(&field));
        for seed in 0..STRIKERS {
            let (field, tally) = (&field, &tally);
            scope.spawn(move || strikes::at_random(field, tally, 90 + seed));
        }
        scope.spawn(|| strikes::freezing(&field, &tally));
        scope.spawn(|| strikes::idle_and_stopping(&field, &tally));
        let storm = wait::Stopwatch::start();
        clients::undisturbed(&field, || storm.passed() > length || field.is_over())
    });
    let died = daemon.status().counters.exits - exits;
    report(&field, &tally, died, length);
    if let Ok(group) = &group {
        println!(
            "  {} killed by the kernel in the small control group",
            group.kills()
        );
    }
    ratio(&calm, &stormy);
    let quarantined = daemon.imagepool(&["quarantine", "list"]).succeeded();
    assert!(quarantined.stdout.is_empty(), "{quarantined:?}");
    assert_eq!(daemon.status().supervisor.pid, daemon.pid());
    assert!(died > length.as_secs(), "{died} deaths are no storm");
    field.models.iter().for_each(field::StormModel::clear);
    // Those that still wait for the point of their letter are replaced.
    daemon.imagepool(&["restart", "all"]).succeeded();
    let same = || at_rest(&daemon, all).is_within(&before, GAINED_KIB_MAX, GAINED_THREADS_MAX);
    let back = wait::until(PATIENCE, same);
    let after = at_rest(&daemon, all);
    println!("census before: {before:?}\ncensus after:  {after:?}");
    assert!(back, "{before:#?} before, {after:#?} after");
}

fn report(field: &StormField<'_>, tally: &StrikeTally, died: u64, length: Duration) {
    println!(
        "{died} workers ended in {length:?} ({:.1} a second), {} strikes; {} pictures, {} of the attached ones by more than one worker",
        died as f64 / length.as_secs_f64(),
        tally.sum(),
        field.pictures.load(Ordering::Relaxed),
        field.resumed.load(Ordering::Relaxed),
    );
    tally.print();
    let mut classes: BTreeMap<String, u64> = BTreeMap::new();
    for line in field.daemon.stderr.with("Worker died") {
        let class = line.split(" reason=").nth(1).unwrap_or_default();
        let class = class.split(' ').next().unwrap_or_default().to_owned();
        *classes.entry(class).or_default() += 1;
    }
    println!("  as the daemon told them: {classes:?}");
}

/// The pictures of the model that is never struck, in a calm and in the storm.
fn ratio(calm: &SortedTimes, stormy: &SortedTimes) {
    let [calm_p99, stormy_p99] = [calm, stormy].map(|times| times.percentile(99));
    println!(
        "undisturbed model: {} pictures, p50 {:?}, p99 {:?} in a calm; {}, p50 {:?}, p99 {:?} in the storm; p99 {:.2} times",
        calm.count(),
        calm.percentile(50),
        calm_p99,
        stormy.count(),
        stormy.percentile(50),
        stormy_p99,
        stormy_p99.as_secs_f64() / calm_p99.as_secs_f64()
    );
    // The processors are shared with other programs: only what cannot be their doing fails.
    assert!(stormy.percentile(50) < calm.percentile(50) * 10);
}

/// The daemon with all its workers and nothing to do.
fn at_rest(daemon: &TestDaemon, workers: usize) -> FullCensus {
    let quiet = || {
        let status = daemon.status();
        let ready = |it: &&ipc_protocol::status::WorkerStatus| {
            it.pid.is_some() && it.state == ipc_protocol::status::WorkerState::Running
        };
        let up = status.workers.iter().filter(ready).count();
        (status.queue.is_empty() && up == workers).then_some(())
    };
    let found = wait::until_found(PATIENCE, quiet);
    assert!(found.is_some(), "{:#?}", daemon.status());
    FullCensus::of(daemon)
}
