//! The models of the storm, their clients, and what may be done to them now.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::PictureSize;
use tests::daemon::TestDaemon;
use tests::job::request;
use tests::storm::{Letter, LetterBox, STEP_MS};
use tests::wait::Stopwatch;

/// Models that are struck.
pub const MODELS: usize = 8;
/// Workers of each, kept.
pub const WORKERS: usize = 2;
/// Clients of each: two that stay attached, and one of each kind that changes from model to model.
pub const ATTACHED: usize = 2;
const CLIENTS: usize = ATTACHED + 2;
/// Pictures that are asked for.
pub const WANTED: usize = 8;
/// Nothing asked for.
const NOTHING: u64 = u64::MAX;

/// A model of the storm.
pub struct StormModel {
    pub name: String,
    letters: LetterBox,
    /// When the job of each client was asked for, in microseconds.
    asked: [AtomicU64; CLIENTS],
    own: Mutex<OwnDeaths>,
}

/// Deaths of a worker's own making, and those that look like it.
#[derive(Default)]
struct OwnDeaths {
    last_us: u64,
    /// A letter is on its way.
    outstanding: bool,
}

/// The whole field.
pub struct StormField<'a> {
    pub daemon: &'a TestDaemon,
    pub models: Vec<StormModel>,
    /// Requests, with the bytes of undisturbed jobs.
    pub known: Vec<(ImageRequest, Vec<u8>)>,
    pub over: AtomicBool,
    pub clock: Stopwatch,
    pub pictures: AtomicU64,
    /// Those that more than one worker drew.
    pub resumed: AtomicU64,
}

/// A model with a worker of its own that is never struck, and one that is idle most of the time.
const BESIDE: &str = "[models.calm]\nfamily = \"synthetic\"\nmin_workers = 1\nmax_workers = 1\nparams = { step_ms = 10, load_ms = 1, weights_mb = 1 }\n\
    [models.resting]\nfamily = \"synthetic\"\nmin_workers = 2\nmax_workers = 2\nparams = { step_ms = 10, load_ms = 15, weights_mb = 1 }\n";
/// Workers beside the struck models.
pub const WORKERS_BESIDE: usize = 3;

fn load_ms(nth: usize) -> u32 {
    5 + 4 * nth as u32
}

/// The settings; `more` are further models.
pub fn settings(more: &str) -> String {
    let models: String = (0..MODELS)
        .map(|nth| {
            format!(
                "[models.storm-{nth}]\nfamily = \"synthetic\"\nmin_workers = {WORKERS}\nmax_workers = {WORKERS}\n\
                 params = {{ step_ms = {STEP_MS}, load_ms = {}, weights_mb = 1 }}\n",
                load_ms(nth)
            )
        })
        .collect();
    format!(
        "[pool]\ncold_start_workers = {WORKERS}\nmax_workers_per_model = {WORKERS}\nqueue_per_model = 64\nresult_seconds = 30\n\
         [limits]\nresult_mb = 8\n{BESIDE}{models}{more}"
    )
}

/// The nth request to `model`, which has steps enough for every point.
pub fn wanted(model: &str, nth: usize) -> ImageRequest {
    ImageRequest {
        size: Some(PictureSize {
            width: 64,
            height: 64,
        }),
        ..request(model, 4 + nth as u32, nth as u64)
    }
}

impl<'a> StormField<'a> {
    /// Draws every picture undisturbed.
    pub fn new(daemon: &'a TestDaemon) -> Self {
        let known = (0..WANTED).map(|nth| {
            let wanted = wanted("calm", nth);
            let picture = daemon.draw(&wanted).expect("an undisturbed job");
            (wanted, picture.rgb8)
        });
        let home = daemon.sandbox.home();
        Self {
            daemon,
            models: (0..MODELS).map(|nth| StormModel::new(&home, nth)).collect(),
            known: known.collect(),
            over: AtomicBool::new(false),
            clock: Stopwatch::start(),
            pictures: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
        }
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub fn now_us(&self) -> u64 {
        self.clock.passed().as_micros() as u64
    }
}

impl StormModel {
    fn new(home: &Path, nth: usize) -> Self {
        Self {
            name: format!("storm-{nth}"),
            letters: LetterBox::of(home, load_ms(nth)),
            asked: std::array::from_fn(|_| AtomicU64::new(NOTHING)),
            own: Mutex::default(),
        }
    }

    /// A client of the model asks for something.
    pub fn ask(&self, client: usize, now_us: u64) {
        self.asked[client].store(now_us, Ordering::SeqCst);
    }

    /// It has its picture.
    pub fn answered(&self, client: usize) {
        self.asked[client].store(NOTHING, Ordering::SeqCst);
    }

    /// Whether a death of a worker's own making can be the first that any job of this model sees: a request that saw two
    /// at the same step would be quarantined, and rightly so.
    fn may_die(&self, own: &mut OwnDeaths, now_us: u64) -> bool {
        if own.outstanding {
            if self.letters.is_in_use() {
                return false;
            }
            (own.outstanding, own.last_us) = (false, now_us);
        }
        let asked = self.asked.iter().map(|at| at.load(Ordering::SeqCst));
        asked.min().is_some_and(|oldest| oldest > own.last_us)
    }

    /// Puts a letter in for the next worker, if that harms no job.
    pub fn put(&self, letter: Letter, now_us: u64) -> bool {
        let mut own = self.own.lock().expect("no holder of this lock can panic");
        let may = self.may_die(&mut own, now_us);
        if may {
            self.letters.put(letter);
            own.outstanding = true;
        }
        may
    }

    /// Notes that a signal was sent that looks like the worker's own, if that harms no job.
    pub fn strike(&self, now_us: impl Fn() -> u64, strike: impl FnOnce()) -> bool {
        let mut own = self.own.lock().expect("no holder of this lock can panic");
        let may = self.may_die(&mut own, now_us());
        if may {
            strike();
            // The job that it had may have been asked for after it was looked at.
            own.last_us = now_us() + 200_000;
        }
        may
    }

    /// Whether a worker is one that ends by a letter, and must be left to it.
    pub fn is_doomed(&self, pid: u32) -> bool {
        self.letters.taker() == Some(pid)
    }

    /// Takes back what no worker has taken.
    pub fn clear(&self) {
        self.letters.clear();
    }
}
