//! A daemon under light mixed load for a long time: its memory, descriptors and threads do not grow.
//!
//! `scripts/soak --seconds N` sets the length. A run that is long enough fits a line to each figure: its slope must not
//! differ from zero, and must be known well enough to say so.

mod load;
mod slope;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tests::daemon::TestDaemon;
use tests::figures::{ProcessFigures, folder_bytes, processor_ms};
use tests::program::PATIENCE;
use tests::{rounds, wait};

use crate::load::{Load, SETTINGS, WORKERS};
use crate::slope::Slope;

/// The part of the run in which tables, caches and pools come to their usual size.
const WARM_UP: u32 = 6;
/// Between two looks.
const EVERY: Duration = Duration::from_secs(3);
/// A shorter run says nothing about slopes.
const LONG: Duration = Duration::from_secs(1200);
/// The memory that a daemon at rest may have gained in a run of any length, in KiB.
const GAINED_KIB_MAX: u64 = 8 * 1024;

/// Threads of the runtime that may be there for work on files.
const GAINED_THREADS_MAX: u64 = 4;

/// A figure, what it is counted in, and the largest half width of an interval per hour that says anything.
type Figure = (&'static str, f64, fn(&Sample) -> f64);
const FIGURES: [Figure; 5] = [
    ("resident memory, KiB", 1024.0, |it| {
        it.process.resident_kib as f64
    }),
    ("proportional share of memory, KiB", 1024.0, |it| {
        it.process.share_kib as f64
    }),
    ("descriptors", 2.0, |it| it.process.descriptors as f64),
    ("threads", 2.0, |it| it.process.threads as f64),
    ("files of the state folder, KiB", 2048.0, |it| {
        it.state_kib as f64
    }),
];

/// The daemon at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Duration,
    process: ProcessFigures,
    state_kib: u64,
}

fn sample(pid: u32, state: &Path, began: &wait::Stopwatch) -> Sample {
    Sample {
        at: began.passed(),
        process: ProcessFigures::of(pid).expect("the daemon lives"),
        state_kib: folder_bytes(state) / 1024,
    }
}

#[test]
fn the_daemon_does_not_grow() {
    let length = Duration::from_secs(rounds::seconds("light mixed load", 25));
    let daemon = TestDaemon::start(SETTINGS);
    daemon.stderr.wait_for("Worker ready", WORKERS, PATIENCE);
    let state = daemon.status().supervisor.state_dir.map(PathBuf::from);
    let state = state.expect("it has a state folder");
    let pid = daemon.pid();
    let mut load = Load::begin(&daemon);
    let rest = at_rest(&daemon);
    println!("at rest before: {rest:?}");
    let (began, over) = (wait::Stopwatch::start(), AtomicBool::new(false));
    let samples = thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut samples = Vec::new();
            while !over.load(Ordering::Relaxed) {
                samples.push(sample(pid, &state, &began));
                wait::moments_of_chance(EVERY);
            }
            samples
        });
        // The sampler ends even if a client's promise is broken.
        let _ends = wait::EndsOnDrop(&over);
        let go_on_until = |load: &mut Load, end| {
            while began.passed() < end {
                load.go_on();
            }
        };
        go_on_until(&mut load, length / WARM_UP);
        println!("warm after {:?}", load.counts);
        load.settle();
        go_on_until(&mut load, length);
        over.store(true, Ordering::Relaxed);
        sampler.join().expect("the daemon lives")
    });
    let used_ms = processor_ms(pid).expect("it lives");
    println!("{:?}", load.counts);
    println!(
        "{} samples; the daemon used {:.1} % of a processor",
        samples.len(),
        used_ms as f64 / began.passed().as_millis() as f64 * 100.0
    );
    let sound = slopes(&samples, length);
    comes_back(&daemon, rest);
    assert!(
        sound,
        "the daemon grows, or the run does not show that it does not"
    );
}

/// Prints each slope with its interval; whether all of them are known and none differs from zero.
fn slopes(samples: &[Sample], length: Duration) -> bool {
    if length < LONG {
        println!("{length:?} are too short for slopes, {LONG:?} are not");
        return true;
    }
    let settled = samples.iter().filter(|it| it.at >= length / WARM_UP);
    let settled: Vec<&Sample> = settled.collect();
    FIGURES.iter().fold(true, |sound, (name, width_max, of)| {
        let series: Vec<(f64, f64)> = settled.iter().map(|it| (it.at.as_secs_f64(), of(it))).collect();
        let values = series.iter().map(|(_, value)| *value);
        let (least, most) = (values.clone().fold(f64::MAX, f64::min), values.fold(0.0, f64::max));
        let slope = Slope::of(&series).expect("a long run has many samples");
        let verdict = match (slope.includes_zero(), slope.half_width <= *width_max) {
            (true, true) => "holds",
            (true, false) => "NOT KNOWN: the interval is too wide",
            (false, _) => "GROWS or shrinks: the interval does not include 0",
        };
        println!(
            "{name}: {:+.2} per hour, 99.8 % within ±{:.2} (at most ±{width_max}); {least} to {most}; {verdict}",
            slope.per_hour, slope.half_width
        );
        let means = slope::blocks(&series).into_iter();
        let means: Vec<String> = means.map(|(_, mean)| format!("{mean:.0}")).collect();
        println!("  over time: {}", means.join(" "));
        sound && verdict == "holds"
    })
}

/// The daemon with all its workers and nothing to do.
fn at_rest(daemon: &TestDaemon) -> ProcessFigures {
    let quiet = || {
        let status = daemon.status();
        let up = status
            .workers
            .iter()
            .filter(|it| it.pid.is_some() && it.load_progress.is_none());
        (status.queue.is_empty() && up.count() == WORKERS).then_some(())
    };
    assert!(
        wait::until_found(PATIENCE, quiet).is_some(),
        "{:?}",
        daemon.status()
    );
    ProcessFigures::of(daemon.pid()).expect("it lives")
}

/// Waits until a daemon that has nothing to do holds what it held before.
fn comes_back(daemon: &TestDaemon, before: ProcessFigures) {
    let same = |now: &ProcessFigures| {
        now.descriptors <= before.descriptors
            && now.memfds == before.memfds
            && now.threads <= before.threads + GAINED_THREADS_MAX
            && now.children == before.children
            && now.resident_kib <= before.resident_kib + GAINED_KIB_MAX
    };
    let back = wait::until(PATIENCE, || same(&at_rest(daemon)));
    let now = at_rest(daemon);
    println!("at rest after: {now:?}");
    assert!(back, "{before:?} before, {now:?} after");
}
