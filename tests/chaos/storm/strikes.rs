//! The strikes: who dies, when and how.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use ipc_protocol::ids::WorkerName;
use ipc_protocol::messages::client::{Target, Verb};
use ipc_protocol::status::WorkerStatus;
use nix::sys::signal::Signal;
use tests::chance::Chance;
use tests::figures::children;
use tests::storm::{Letter, LifePoint, OwnEnd, oom_group, point_word};
use tests::{processes, wait};

use super::field::{MODELS, StormField};

/// Between two strikes of one thread, at most.
const PAUSE: Duration = Duration::from_millis(60);
/// Between two workers that are stopped.
const BETWEEN_STOPS: Duration = Duration::from_secs(3);
/// Signals that people and programs send, which no fault raises.
const SENT: [Signal; 8] = [
    Signal::SIGKILL,
    Signal::SIGKILL,
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGALRM,
];
/// Signals that faults raise.
const OF_FAULTS: [Signal; 5] = [
    Signal::SIGSEGV,
    Signal::SIGABRT,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
];
/// Exit codes by which a worker says that it cannot load, or that its device is gone. A worker is believed what it says of
/// itself, so these are no deaths like others: `kill_own` tests them.
const BELIEVED: [u8; 6] = [66, 75, 78, 80, 82, 83];

/// Where and how a strike was aimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    AtRandom,
    Starting,
    Step,
    AfterTheLastStep,
    Idle,
    Stopping,
    Frozen,
    FrozenForAMoment,
    /// A signal of a fault, through an operator's command: its sender is known.
    ByAnOperator,
    /// A signal of a fault from outside: its sender cannot be known.
    LikeItsOwn,
    /// A letter.
    Own(LifePoint),
}

/// Strikes so far.
#[derive(Default)]
pub struct StrikeTally(Mutex<BTreeMap<(Point, &'static str), u64>>);

impl StrikeTally {
    pub fn add(&self, point: Point) {
        self.note(point, "");
    }

    fn note(&self, point: Point, how: &'static str) {
        let point = match point {
            Point::Own(LifePoint::Step(_)) => Point::Own(LifePoint::Step(0)),
            other => other,
        };
        let mut counts = self.0.lock().expect("no holder of this lock can panic");
        *counts.entry((point, how)).or_default() += 1;
    }

    /// All strikes.
    pub fn sum(&self) -> u64 {
        let counts = self.0.lock().expect("no holder of this lock can panic");
        counts.values().sum()
    }

    /// A line for each point.
    pub fn print(&self) {
        let counts = self.0.lock().expect("no holder of this lock can panic");
        let mut points: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for ((point, how), count) in counts.iter() {
            let name = match point {
                Point::Own(point) => format!("own making, {}", point_word(*point)),
                other => format!("{other:?}"),
            };
            points
                .entry(name)
                .or_default()
                .push(format!("{how} {count}"));
        }
        for (point, hows) in points {
            println!("  {point}: {}", hows.join(", "));
        }
    }
}

/// A worker of a struck model at random, that has a process.
fn someone(field: &StormField<'_>, chance: &mut Chance) -> Option<(usize, WorkerStatus)> {
    let model = chance.below(MODELS as u64) as usize;
    let of = |it: &WorkerStatus| {
        it.model.as_str() == field.models[model].name
            && it
                .pid
                .is_some_and(|pid| !field.models[model].is_doomed(pid))
    };
    let mut workers = field.daemon.status().workers;
    workers.retain(of);
    let nth = chance.below(workers.len().max(1) as u64) as usize;
    (nth < workers.len()).then(|| (model, workers.swap_remove(nth)))
}

fn pid(worker: &WorkerStatus) -> u32 {
    worker.pid.expect("only those with a process were chosen")
}

/// Rust's runtime handles the first of some signals, sees that nothing was wrong with the program and goes on.
fn send_twice(pid: u32, signal: Signal) {
    processes::signal(pid, signal);
    processes::signal(pid, signal);
}

/// Strikes at random until the storm is over.
pub fn at_random(field: &StormField<'_>, tally: &StrikeTally, seed: u64) {
    let mut chance = Chance::quiet(seed);
    while !field.is_over() {
        wait::moments_of_chance(chance.moment(PAUSE));
        match chance.below(100) {
            0..40 => {
                if let Some((_, worker)) = someone(field, &mut chance) {
                    let signal = SENT[chance.below(SENT.len() as u64) as usize];
                    processes::signal(pid(&worker), signal);
                    tally.note(Point::AtRandom, signal.as_str());
                }
            }
            40..55 => starting(field, tally, &mut chance),
            55..70 => by_an_operator(field, tally, &mut chance),
            70..75 => like_its_own(field, tally, &mut chance),
            _ => own(field, tally, &mut chance),
        }
    }
}

/// The next process that the daemon makes, within its first milliseconds.
fn starting(field: &StormField<'_>, tally: &StrikeTally, chance: &mut Chance) {
    let before = children(field.daemon.pid());
    let new = wait::until_found(Duration::from_millis(200), || {
        let now: BTreeSet<u32> = children(field.daemon.pid());
        now.difference(&before).next().copied()
    });
    let Some(new) = new else { return };
    wait::moments_of_chance(Duration::from_micros(chance.below(12_000)));
    // One of a model that is never struck is left alone.
    let beside = |it: &WorkerStatus| it.pid == Some(new) && it.model.as_str() == "calm";
    if !field.daemon.status().workers.iter().any(beside) {
        processes::signal(new, Signal::SIGKILL);
        tally.note(Point::Starting, "SIGKILL");
    }
}

fn by_an_operator(field: &StormField<'_>, tally: &StrikeTally, chance: &mut Chance) {
    let Some((_, worker)) = someone(field, chance) else {
        return;
    };
    let (_, slot) = worker.name.split_once(':').expect("MODEL:SLOT");
    let name = WorkerName {
        model: worker.model.clone(),
        slot: slot.parse().expect("a number"),
    };
    let signal = OF_FAULTS[chance.below(OF_FAULTS.len() as u64) as usize];
    let verb = || Verb::Signal {
        signal: signal.as_str().to_owned(),
        target: Target::Worker(name.clone()),
    };
    let mut operator = field.daemon.client();
    for _ in 0..2 {
        // It may have ended already.
        let _ = operator.operate(verb());
    }
    tally.note(Point::ByAnOperator, signal.as_str());
}

fn like_its_own(field: &StormField<'_>, tally: &StrikeTally, chance: &mut Chance) {
    let signal = OF_FAULTS[chance.below(OF_FAULTS.len() as u64) as usize];
    let Some((model, worker)) = someone(field, chance) else {
        return;
    };
    let strike = || send_twice(pid(&worker), signal);
    if field.models[model].strike(|| field.now_us(), strike) {
        tally.note(Point::LikeItsOwn, signal.as_str());
    }
}

/// Kills a worker whose successor finds a letter.
fn own(field: &StormField<'_>, tally: &StrikeTally, chance: &mut Chance) {
    let Some((model, worker)) = someone(field, chance) else {
        return;
    };
    let (letter, how) = letter(chance, field.daemon.sandbox.home().as_path());
    if field.models[model].put(letter, field.now_us()) {
        tally.note(Point::Own(letter.point), how);
        processes::signal(pid(&worker), Signal::SIGKILL);
        tally.note(Point::AtRandom, "SIGKILL");
    }
}

fn letter(chance: &mut Chance, home: &Path) -> (Letter, &'static str) {
    let point = match chance.below(9) {
        0 => LifePoint::Starting,
        1 => LifePoint::Greeting,
        2 => LifePoint::Loading,
        3 => LifePoint::Idle,
        4 => LifePoint::Encoding,
        5 => LifePoint::Step(1 + chance.below(8) as u32),
        6 => LifePoint::Decoding,
        7 => LifePoint::Publishing,
        _ => LifePoint::Stopping,
    };
    let (end, how) = match chance.below(12) {
        0..6 => loop {
            let code = chance.bits() as u8;
            if !BELIEVED.contains(&code) {
                break (OwnEnd::Exit(code), "exit 0..255");
            }
        },
        6 => (OwnEnd::Panic, "panic"),
        7 => (OwnEnd::StackOverflow, "stack overflow"),
        8 if is_at_work(point) => (OwnEnd::Allocation, "failed allocation"),
        9 if is_at_work(point) && oom_group(home).exists() => {
            (OwnEnd::KernelOutOfMemory, "kernel OOM")
        }
        _ => {
            let signal = OF_FAULTS[chance.below(OF_FAULTS.len() as u64) as usize];
            (OwnEnd::Signal(signal as i32), signal.as_str())
        }
    };
    (Letter { point, end }, how)
}

/// Whether a worker has a job there. One that has none and no memory is taken for one that does not fit.
fn is_at_work(point: LifePoint) -> bool {
    match point {
        LifePoint::Encoding | LifePoint::Step(_) | LifePoint::Decoding => true,
        LifePoint::Starting
        | LifePoint::Greeting
        | LifePoint::Loading
        | LifePoint::Idle
        | LifePoint::Publishing
        | LifePoint::Stopping => false,
    }
}

/// Stops workers; half of them go on after a moment.
pub fn freezing(field: &StormField<'_>, tally: &StrikeTally) {
    let mut chance = Chance::quiet(55);
    while !field.is_over() {
        wait::moments_of_chance(BETWEEN_STOPS);
        let Some((_, worker)) = someone(field, &mut chance) else {
            continue;
        };
        processes::signal(pid(&worker), Signal::SIGSTOP);
        if chance.below(2) == 0 {
            wait::moments_of_chance(chance.moment(Duration::from_millis(800)));
            processes::signal(pid(&worker), Signal::SIGCONT);
            tally.note(Point::FrozenForAMoment, "SIGSTOP, SIGCONT");
        } else {
            tally.note(Point::Frozen, "SIGSTOP");
        }
    }
}

/// Kills workers that are idle, and those that were asked to leave.
pub fn idle_and_stopping(field: &StormField<'_>, tally: &StrikeTally) {
    let mut chance = Chance::quiet(56);
    let of = |it: &WorkerStatus| it.model.as_str() == "resting" && it.job.is_none();
    while !field.is_over() {
        wait::moments_of_chance(chance.moment(Duration::from_millis(700)));
        let mut workers = field.daemon.status().workers;
        workers.retain(|it| of(it) && it.pid.is_some());
        let stopping = chance.below(3) == 0;
        if stopping {
            let model = "resting".to_owned();
            // It may have no idle worker.
            let _ = field.daemon.client().operate(Verb::Evict { model });
            wait::moments_of_chance(Duration::from_micros(chance.below(3000)));
        }
        for worker in workers.iter().take(1 + usize::from(stopping)) {
            processes::signal(pid(worker), Signal::SIGKILL);
            tally.note(
                if stopping {
                    Point::Stopping
                } else {
                    Point::Idle
                },
                "SIGKILL",
            );
        }
    }
}

/// A memory control group below this process's own in which a worker soon meets the limit; removed when dropped.
pub struct SmallGroup(PathBuf);

impl SmallGroup {
    /// Makes it, and tells the workers of a sandbox where it is.
    pub fn make(home: &Path) -> Result<Self, String> {
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let line = own.lines().find_map(|line| line.split_once(":memory:"));
        let (_, path) = line.ok_or("no memory controller of version 1")?;
        let parent = Path::new("/sys/fs/cgroup/memory").join(path.trim_start_matches('/'));
        let group = parent.join(format!("imagepool-storm-{}", std::process::id()));
        let named = |error: std::io::Error| format!("{}: {error}", group.display());
        fs::create_dir(&group).map_err(named)?;
        let made = Self(group.clone());
        fs::write(group.join("memory.limit_in_bytes"), (32 << 20).to_string()).map_err(named)?;
        let text = group.display().to_string();
        fs::write(oom_group(home), text).map_err(named)?;
        Ok(made)
    }

    /// Processes that the kernel killed in it.
    pub fn kills(&self) -> u64 {
        let text = fs::read_to_string(self.0.join("memory.oom_control")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|number| number.trim().parse().ok())
            .unwrap_or(0)
    }
}

impl Drop for SmallGroup {
    fn drop(&mut self) {
        // A process that is still in it is the daemon's to end; the group then stays, empty.
        wait::until(Duration::from_secs(10), || fs::remove_dir(&self.0).is_ok());
    }
}
