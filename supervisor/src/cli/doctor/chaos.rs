//! `doctor --chaos`: ends and stops workers while they draw, and measures the recovery.

use std::time::Duration;

use ipc_protocol::client::{Client, Picture, Update};
use ipc_protocol::ids::JobId;
use ipc_protocol::request::ImageRequest;
use ipc_protocol::status::WorkerStatus;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pool::Moment;
use serde_json::json;

use crate::cli::args::ConnectOptions;
use crate::cli::colour::{ColourChoice, Tone};
use crate::cli::daemon::private::PrivatePool;
use crate::cli::text::{OutputFormat, TonedLine};
use crate::cli::{CommandError, say};
use crate::clock::Clock;

/// The model inside the worker program, which every machine has.
const MODEL: &str = "pocket-flux";
/// Enough steps to be in the middle of.
const STEPS: u32 = 16;
/// The step after which a worker is struck.
const STRUCK_STEP: u32 = 3;
/// After this time a job counts as lost.
const PATIENCE: Duration = Duration::from_secs(180);

/// The signals that strike, each once: ends from outside, crashes, and a worker that stands still. Not SIGBUS, which may
/// mean that a model file was cut.
const STRIKES: [Signal; 6] = [
    Signal::SIGKILL,
    Signal::SIGTERM,
    Signal::SIGSEGV,
    Signal::SIGABRT,
    Signal::SIGFPE,
    Signal::SIGSTOP,
];

/// Widths of the columns that are printed.
const WIDTHS: [usize; 6] = [9, 15, 9, 12, 10, 11];

/// Strikes once with each signal and prints the results; returns the exit code.
pub fn run(reach: &ConnectOptions, json: bool, colour: ColourChoice) -> Result<u8, CommandError> {
    let format = OutputFormat::of_stdout(colour);
    let mut trial = ChaosTrial {
        pool: PrivatePool::start(reach)?,
        clock: Clock::start(),
        struck: Vec::new(),
    };
    if !json {
        let heads = [
            "SIGNAL",
            "WORKER",
            "AT STEP",
            "RESUMED IN",
            "DRAWN IN",
            "OTHERWISE",
        ];
        let line = columns(heads.map(str::to_owned)).and(Tone::Plain, "PICTURE");
        say::painted(&line.print(false));
    }
    let mut is_well = true;
    for (signal, seed) in STRIKES.into_iter().zip(1..) {
        let strike = trial.strike(signal, seed)?;
        is_well &= strike.is_well();
        match json {
            true => say::line(strike.json()),
            false => say::painted(&strike.line().print(format.is_coloured)),
        }
    }
    let ChaosTrial { pool, struck, .. } = trial;
    // It ends the daemon and waits for it, and the daemon for its workers.
    drop(pool);
    let left: Vec<String> = struck
        .iter()
        .filter(|pid| is_there(**pid))
        .map(ToString::to_string)
        .collect();
    if !left.is_empty() {
        is_well = false;
        say::aside(format_args!(
            "imagepool: workers outlived their pool: {}",
            left.join(", ")
        ));
    }
    if !json && is_well {
        say::line(
            "No job was lost, every picture is the same as without a strike, and no process is left.",
        );
    }
    Ok(u8::from(!is_well))
}

/// A private pool whose workers are struck.
struct ChaosTrial {
    pool: PrivatePool,
    clock: Clock,
    /// The processes that were struck.
    struck: Vec<Pid>,
}

/// A drawn picture, and how long it took.
struct DrawnPicture {
    picture: Box<Picture>,
    took: Duration,
}

/// The result of one strike.
struct Strike {
    signal: Signal,
    worker: String,
    step: u32,
    /// Time from the signal to the next step of the job.
    resumed_in: Option<Duration>,
    /// The undisturbed picture.
    otherwise: DrawnPicture,
    /// The picture of the struck job, or why it was lost.
    drawn: Result<DrawnPicture, String>,
}

impl ChaosTrial {
    /// Draws a picture undisturbed, then again with a strike.
    fn strike(&mut self, signal: Signal, seed: u64) -> Result<Strike, CommandError> {
        let mut request = ImageRequest::new(format!("a red circle left of a blue square, {seed}"));
        request.model = Some(MODEL.into());
        request.seed = Some(seed);
        request.steps = Some(STEPS);
        request.timeout_ms = u64::try_from(PATIENCE.as_millis()).ok();
        let (mut client, began) = (self.pool.connect()?, self.clock.now());
        let mut otherwise = None;
        for update in client.generate(&request)? {
            match update? {
                Update::Picture(picture) => otherwise = Some(self.drawn(picture, began)),
                Update::Failed { failure, .. } => return Err(failure.into()),
                Update::Waiting { .. }
                | Update::Loading { .. }
                | Update::Step { .. }
                | Update::Preview { .. }
                | Update::DaemonLost
                | Update::AcceptedAgain(_) => {}
            }
        }
        let Some(otherwise) = otherwise else {
            return Err(CommandError::Private(
                "it ended a request without an answer".into(),
            ));
        };
        let mut strike = Strike {
            signal,
            worker: String::new(),
            step: 0,
            resumed_in: None,
            otherwise,
            drawn: Err("no answer".into()),
        };
        self.draw_struck(&request, &mut strike)?;
        Ok(strike)
    }

    fn draw_struck(
        &mut self,
        request: &ImageRequest,
        strike: &mut Strike,
    ) -> Result<(), CommandError> {
        let (mut client, mut observer) = (self.pool.connect()?, self.pool.connect()?);
        let began = self.clock.now();
        let mut struck: Option<StruckWorker> = None;
        for update in client.generate(request)? {
            match (update?, &mut struck) {
                (Update::Step { job, step, .. }, None) if step >= STRUCK_STEP => {
                    let Some((worker, pid)) = worker_of(&mut observer, job)? else {
                        continue;
                    };
                    (strike.worker, strike.step) = (worker, step);
                    self.struck.push(pid);
                    struck = Some(StruckWorker::strike(pid, strike.signal, self.clock));
                }
                (Update::Step { job, .. }, Some(worker)) if strike.resumed_in.is_none() => {
                    let now = worker_of(&mut observer, job)?;
                    match now.is_some_and(|(_, pid)| pid != worker.pid) {
                        true => strike.resumed_in = Some(self.clock.now().since(worker.at)),
                        false => worker.strike_again(strike.signal, self.clock),
                    }
                }
                (Update::Picture(picture), _) => strike.drawn = Ok(self.drawn(picture, began)),
                (Update::Failed { failure, .. }, _) => strike.drawn = Err(failure.to_string()),
                (
                    Update::Waiting { .. }
                    | Update::Loading { .. }
                    | Update::Step { .. }
                    | Update::Preview { .. }
                    | Update::DaemonLost
                    | Update::AcceptedAgain(_),
                    _,
                ) => {}
            }
        }
        Ok(())
    }

    fn drawn(&self, picture: Box<Picture>, began: Moment) -> DrawnPicture {
        DrawnPicture {
            picture,
            took: self.clock.now().since(began),
        }
    }
}

/// A worker that was struck.
struct StruckWorker {
    pid: Pid,
    /// When it was struck last.
    at: Moment,
    is_struck_twice: bool,
}

impl StruckWorker {
    fn strike(pid: Pid, signal: Signal, clock: Clock) -> Self {
        // It fails if the worker has ended, which is as good.
        let _ = kill(pid, signal);
        Self {
            pid,
            at: clock.now(),
            is_struck_twice: false,
        }
    }

    /// Strikes again if the worker has survived: Rust's handler of SIGSEGV removes itself and continues, because it expects
    /// the fault to happen again.
    fn strike_again(&mut self, signal: Signal, clock: Clock) {
        if !self.is_struck_twice && signal == Signal::SIGSEGV {
            let _ = kill(self.pid, signal);
            (self.at, self.is_struck_twice) = (clock.now(), true);
        }
    }
}

/// The worker that runs a job, and its process.
fn worker_of(observer: &mut Client, job: JobId) -> Result<Option<(String, Pid)>, CommandError> {
    let workers = observer.status()?.workers;
    let runs = |worker: &WorkerStatus| worker.job.as_ref().is_some_and(|it| it.id == job);
    Ok(workers.into_iter().find(runs).and_then(|worker| {
        let pid = i32::try_from(worker.pid?).ok()?;
        Some((worker.name, Pid::from_raw(pid)))
    }))
}

fn is_there(pid: Pid) -> bool {
    kill(pid, None).is_ok()
}

impl Strike {
    /// The verdict about the picture.
    fn verdict(&self) -> Result<&'static str, String> {
        match &self.drawn {
            Err(why) => Err(format!("lost: {why}")),
            Ok(_) if self.worker.is_empty() => Err("drawn before a worker could be struck".into()),
            Ok(drawn) if drawn.picture.rgb8 != self.otherwise.picture.rgb8 => {
                Err("another picture than without the strike".into())
            }
            Ok(drawn) if drawn.picture.report.attempts < 2 => {
                Err("the worker survived the signal".into())
            }
            Ok(_) => Ok("identical"),
        }
    }

    fn is_well(&self) -> bool {
        self.verdict().is_ok()
    }

    fn line(&self) -> TonedLine {
        let seconds = |time: Option<Duration>| match time {
            Some(time) => format!("{:.2} s", time.as_secs_f64()),
            None => "-".to_owned(),
        };
        let took = self.drawn.as_ref().ok().map(|drawn| drawn.took);
        let cells = [
            self.signal.to_string(),
            self.worker.clone(),
            format!("{}/{STEPS}", self.step),
            seconds(self.resumed_in),
            seconds(took),
            seconds(Some(self.otherwise.took)),
        ];
        match self.verdict() {
            Ok(word) => columns(cells).and(Tone::Good, word),
            Err(why) => columns(cells).and(Tone::Bad, why),
        }
    }

    fn json(&self) -> serde_json::Value {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let report = self.drawn.as_ref().ok().map(|drawn| &drawn.picture.report);
        json!({
            "signal": self.signal.as_str(),
            "worker": self.worker,
            "step": self.step,
            "steps": STEPS,
            "resumed_ms": self.resumed_in.map(ms),
            "drawn_ms": self.drawn.as_ref().ok().map(|drawn| ms(drawn.took)),
            "otherwise_ms": ms(self.otherwise.took),
            "attempts": report.map(|report| report.attempts),
            "resumed_from_step": report.map(|report| report.resume_step),
            "identical": self.is_well(),
            "error": self.verdict().err(),
        })
    }
}

fn columns(cells: [String; 6]) -> TonedLine {
    let padded = cells.into_iter().zip(WIDTHS);
    let mut end = 0;
    padded.fold(TonedLine::default(), |line, (cell, width)| {
        end += width;
        line.and(Tone::Plain, cell).pad(end)
    })
}
