//! Scripted worker processes that load, draw, crash, hang and lie.

use std::collections::BTreeMap;

use ipc_protocol::ids::{Generation, JobId};
use pool::{CpuTime, Event, Exit, KilledBy, Moment, Phases, Run, Start, StartFault};

use crate::faults::{FaultKind, FaultSet};
use crate::random::SeededRandom;

const MS: u64 = 1000;
/// Between two heartbeats of a healthy worker, in microseconds.
const BEAT: u64 = 1500 * MS;

/// The next step of a worker process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ScriptedStep {
    Begin,
    Hello,
    Load(u16),
    Step,
    Done,
    Unwound,
    Beat,
    Resume,
    Die(Exit),
    Reap(Exit),
    MemoryBack,
    Repeat,
    /// The kernel is asked for its processor time.
    Sample,
}

/// Something that happens later.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scheduled {
    pub(crate) in_us: u64,
    pub(crate) worker: Generation,
    /// Only while the process is still in this episode; 0 means always.
    pub(crate) episode: u64,
    pub(crate) act: ScriptedStep,
}

/// A worker process.
#[derive(Debug)]
struct ScriptedWorker {
    model: String,
    alive: bool,
    begun: bool,
    ready: bool,
    /// Sends nothing and does nothing.
    silent: bool,
    /// Sends heartbeats without progress.
    stuck: bool,
    /// It computes while it is stuck.
    spins: bool,
    /// It claims to work while it is stuck.
    lies: bool,
    /// It gets little of the processor for its job.
    starved: bool,
    /// The kernel does not tell its processor time.
    unknown: bool,
    work: u64,
    cpu: CpuTime,
    cpu_at: Moment,
    asked: bool,
    episode: u64,
    job: Option<ScriptedJob>,
    ignores_ask: bool,
    settles: bool,
    said: Option<Event>,
}

#[derive(Debug)]
struct ScriptedJob {
    job: JobId,
    step: u32,
    steps: u32,
    step_us: u64,
    decode_us: u64,
    poison: bool,
    /// A kill from outside nearly always ends the worker that draws it.
    doomed: bool,
    cancelled: bool,
}

/// All worker processes of a world.
#[derive(Debug)]
pub(crate) struct ScriptedWorkers {
    processes: BTreeMap<Generation, ScriptedWorker>,
    gone: Vec<(Generation, Event)>,
    pub(crate) faults: FaultSet,
    pub(crate) now: Moment,
    /// A model whose workers nearly always crash.
    pub(crate) cursed: Option<String>,
    pub(crate) deaths: u64,
}

impl ScriptedWorkers {
    pub(crate) fn new(faults: FaultSet) -> Self {
        Self {
            processes: BTreeMap::new(),
            gone: Vec::new(),
            faults,
            now: Moment::START,
            cursed: None,
            deaths: 0,
        }
    }

    fn luck(&self, random: &mut SeededRandom, fault: FaultKind, permille: u64) -> bool {
        self.faults.has(fault) && random.permille(permille)
    }

    pub(crate) fn start(
        &mut self,
        start: &Start,
        confirms: bool,
        random: &mut SeededRandom,
    ) -> Vec<Scheduled> {
        let process = ScriptedWorker {
            model: start.model.to_string(),
            alive: true,
            begun: false,
            ready: false,
            silent: false,
            stuck: false,
            spins: random.permille(400),
            lies: random.permille(150),
            starved: false,
            unknown: self.luck(random, FaultKind::NoEvidence, 300),
            work: 0,
            cpu: CpuTime::default(),
            cpu_at: self.now,
            asked: false,
            episode: 1,
            job: None,
            ignores_ask: self.luck(random, FaultKind::IgnoresAsk, 200),
            settles: confirms,
            said: None,
        };
        self.processes.insert(start.worker, process);
        vec![Scheduled {
            in_us: random.from(MS, 20 * MS),
            worker: start.worker,
            episode: 0,
            act: ScriptedStep::Begin,
        }]
    }

    pub(crate) fn run(&mut self, run: &Run, random: &mut SeededRandom) -> Vec<Scheduled> {
        let slow = self.luck(random, FaultKind::Slow, 50);
        let doomed = run.parameters.prompt.contains("doomed");
        let hang = self.luck(random, FaultKind::Hang, if doomed { 150 } else { 8 });
        let stuck = self.luck(random, FaultKind::Stuck, 8);
        let starved = self.luck(random, FaultKind::Starved, 40);
        self.spend(run.worker);
        let Some(process) = self.processes.get_mut(&run.worker) else {
            return Vec::new();
        };
        process.episode += 1;
        process.starved = starved;
        let slower = match (slow, starved) {
            (_, true) => 40,
            (true, false) => 5,
            (false, false) => 1,
        };
        let step_us = random.from(20, 400) * MS * slower;
        process.job = Some(ScriptedJob {
            job: run.job,
            step: run.resume_step,
            steps: run.parameters.steps,
            step_us,
            decode_us: step_us * random.from(1, 12),
            poison: run.parameters.prompt.contains("poison"),
            doomed,
            cancelled: false,
        });
        (process.silent, process.stuck) = (process.silent | hang, process.stuck | stuck);
        if process.silent {
            return Vec::new();
        }
        let act = if run.resume_step >= run.parameters.steps {
            ScriptedStep::Done
        } else {
            ScriptedStep::Step
        };
        vec![later(run.worker, process.episode, step_us, act)]
    }

    pub(crate) fn cancel(
        &mut self,
        worker: Generation,
        random: &mut SeededRandom,
    ) -> Vec<Scheduled> {
        let ignores = self.luck(random, FaultKind::IgnoresCancel, 200);
        let dies = self.luck(random, FaultKind::DieUnwinding, 100);
        let Some(process) = self.processes.get_mut(&worker) else {
            return Vec::new();
        };
        let Some(drawing) = process
            .job
            .as_mut()
            .filter(|_| process.alive && !process.silent)
        else {
            return Vec::new();
        };
        if dies {
            return vec![later(worker, 0, MS, ScriptedStep::Die(crash(11)))];
        }
        if ignores {
            process.stuck = true;
            return Vec::new();
        }
        drawing.cancelled = true;
        process.episode += 1;
        let rest = random.from(1, drawing.step_us);
        vec![later(worker, process.episode, rest, ScriptedStep::Unwound)]
    }

    pub(crate) fn asked(
        &mut self,
        worker: Generation,
        random: &mut SeededRandom,
    ) -> Vec<Scheduled> {
        let Some(process) = self.processes.get_mut(&worker) else {
            return Vec::new();
        };
        process.asked = true;
        if process.ignores_ask || process.silent || process.stuck || !process.begun {
            return Vec::new();
        }
        vec![later(
            worker,
            0,
            random.from(1, 200 * MS),
            ScriptedStep::Die(Exit::Code(0)),
        )]
    }

    pub(crate) fn terminated(
        &mut self,
        worker: Generation,
        random: &mut SeededRandom,
    ) -> Vec<Scheduled> {
        let Some(process) = self.processes.get_mut(&worker) else {
            return Vec::new();
        };
        if process.silent || !process.begun || process.ignores_ask && random.permille(500) {
            return Vec::new();
        }
        let exit = killed(15, KilledBy::Us);
        vec![later(
            worker,
            0,
            random.from(1, 100 * MS),
            ScriptedStep::Die(exit),
        )]
    }

    pub(crate) fn killed(
        &mut self,
        worker: Generation,
        random: &mut SeededRandom,
    ) -> Vec<Scheduled> {
        let exit = killed(9, KilledBy::Us);
        vec![later(
            worker,
            0,
            random.from(1, 10 * MS),
            ScriptedStep::Die(exit),
        )]
    }

    /// Kills one of them from outside.
    pub(crate) fn kill_one(&mut self, random: &mut SeededRandom) -> Vec<Scheduled> {
        let alive: Vec<Generation> = self
            .processes
            .iter()
            .filter(|(_, process)| process.alive && process.begun)
            .map(|(&worker, _)| worker)
            .collect();
        if alive.is_empty() {
            return Vec::new();
        }
        let worker = alive[random.below(alive.len())];
        let oom = self.luck(random, FaultKind::KernelOom, 300);
        let exit = match (oom, self.luck(random, FaultKind::Sigbus, 200)) {
            (true, _) => killed(9, KilledBy::KernelOom),
            (false, true) if random.permille(500) => killed(7, KilledBy::CutFile),
            (false, true) => killed(7, KilledBy::Other),
            (false, false) => killed([9, 15, 2, 1, 3][random.below(5)], KilledBy::Other),
        };
        vec![later(worker, 0, 0, ScriptedStep::Die(exit))]
    }

    /// The probe looked at one of them.
    pub(crate) fn weigh_one(&mut self, random: &mut SeededRandom) -> Option<Event> {
        let alive = self
            .processes
            .iter()
            .filter(|(_, process)| process.alive && process.begun);
        let alive: Vec<Generation> = alive.map(|(&worker, _)| worker).collect();
        let worker = *alive.get(random.below(alive.len()))?;
        let footprint = match self.luck(random, FaultKind::Fat, 300) {
            true => footprint(random),
            false => pool::Footprint::default(),
        };
        Some(Event::FootprintMeasured { worker, footprint })
    }

    /// A late message of a process that is gone.
    pub(crate) fn echo(&mut self, random: &mut SeededRandom) -> Option<Event> {
        if self.gone.is_empty() {
            return None;
        }
        let nth = random.below(self.gone.len());
        Some(self.gone.swap_remove(nth).1)
    }

    /// Does the process's next step and returns its events.
    pub(crate) fn act(
        &mut self,
        what: Scheduled,
        random: &mut SeededRandom,
    ) -> (Option<Event>, Vec<Scheduled>) {
        let worker = what.worker;
        if what.act == ScriptedStep::MemoryBack {
            let (left, next) = match random.permille(250) {
                true => {
                    // Without faults the last part comes before the pool gives it up.
                    let late = self.faults.has(FaultKind::LateMemory);
                    let in_us = random.from(MS, if late { 2_000 } else { 200 } * MS);
                    (random.from(1, 200), vec![Scheduled { in_us, ..what }])
                }
                false => (0, Vec::new()),
            };
            let left = ipc_protocol::units::Mebibytes(left);
            return (Some(Event::MemoryReturned { worker, left }), next);
        }
        self.spend(worker);
        if what.act == ScriptedStep::Sample {
            let known = self
                .processes
                .get(&worker)
                .filter(|process| !process.unknown);
            let cpu = known.map(|process| process.cpu);
            return (Some(Event::CpuMeasured { worker, cpu }), Vec::new());
        }
        let Some(process) = self.processes.get(&worker) else {
            return (None, Vec::new());
        };
        if what.episode != 0 && what.episode != process.episode {
            return (None, Vec::new());
        }
        let (event, next) = match what.act {
            ScriptedStep::Reap(exit) => return self.reap(worker, exit, random),
            ScriptedStep::Die(exit) => return (None, self.die(worker, exit, random)),
            _ if !process.alive => (None, Vec::new()),
            ScriptedStep::Begin => self.begin(worker, random),
            ScriptedStep::Resume => self.resume(worker),
            _ if process.silent => (None, Vec::new()),
            ScriptedStep::Beat => {
                let next = vec![later(worker, 0, BEAT, ScriptedStep::Beat)];
                (Some(self.beat(worker)), next)
            }
            ScriptedStep::Repeat => (process.said.clone(), Vec::new()),
            _ if process.stuck => (None, Vec::new()),
            ScriptedStep::Hello => self.hello(worker, random),
            ScriptedStep::Load(permille) => self.load(worker, permille, random),
            ScriptedStep::Step => self.step(worker, random),
            ScriptedStep::Done => self.done(worker, random),
            ScriptedStep::Unwound => self.unwound(worker),
            ScriptedStep::MemoryBack | ScriptedStep::Sample => (None, Vec::new()),
        };
        self.remember(worker, event, next, random)
    }

    fn remember(
        &mut self,
        worker: Generation,
        event: Option<Event>,
        mut next: Vec<Scheduled>,
        random: &mut SeededRandom,
    ) -> (Option<Event>, Vec<Scheduled>) {
        if let Some(event) = &event
            && self.faults.has(FaultKind::Repeats)
        {
            if random.permille(50) {
                next.push(later(
                    worker,
                    0,
                    random.from(0, 800 * MS),
                    ScriptedStep::Repeat,
                ));
            }
            if let Some(process) = self.processes.get_mut(&worker) {
                process.said = Some(event.clone());
            }
        }
        (event, next)
    }

    /// A heartbeat. A worker that computes counts its work, and so does one that only pretends to.
    fn beat(&mut self, worker: Generation) -> Event {
        let counts = !self.faults.has(FaultKind::Uncounted);
        let Some(process) = self.processes.get_mut(&worker) else {
            return Event::WorkerHeard { worker };
        };
        let works = !process.ready || process.job.is_some();
        let goes_on = !process.stuck && !process.starved || process.stuck && process.lies;
        match counts && works {
            true => {
                process.work += u64::from(goes_on);
                let work = process.work;
                Event::WorkerWorked { worker, work }
            }
            false => Event::WorkerHeard { worker },
        }
    }

    /// Answers a measurement; without an answer of the kernel there is no event.
    pub(crate) fn measured(
        &mut self,
        worker: Generation,
        random: &mut SeededRandom,
    ) -> Vec<Scheduled> {
        match self.luck(random, FaultKind::NoEvidence, 100) {
            true => Vec::new(),
            false => vec![later(
                worker,
                0,
                random.from(1, 30 * MS),
                ScriptedStep::Sample,
            )],
        }
    }

    /// Processor time up to now, by what it did since it was looked at last.
    fn spend(&mut self, worker: Generation) {
        let now = self.now;
        let Some(process) = self.processes.get_mut(&worker) else {
            return;
        };
        let spent = now.since(std::mem::replace(&mut process.cpu_at, now));
        let works = !process.ready || process.job.is_some();
        process.cpu.blocked = false;
        match (process.silent, process.stuck, works) {
            (false, false, true) if process.starved => {
                process.cpu.ran += spent / 50;
                process.cpu.waited += spent * 49 / 50;
            }
            (false, false, true) => process.cpu.ran += spent,
            (false, true, _) if process.spins => process.cpu.ran += spent,
            _ => {}
        }
    }

    fn begin(
        &mut self,
        worker: Generation,
        random: &mut SeededRandom,
    ) -> (Option<Event>, Vec<Scheduled>) {
        if self.luck(random, FaultKind::SpawnFails, 40) {
            self.processes.remove(&worker);
            let message = "resource temporarily unavailable".into();
            return (
                Some(Event::WorkerStartFailed {
                    worker,
                    message,
                    fault: match random.from(0, 9) {
                        0 | 1 => StartFault::Program,
                        2..=4 => StartFault::Descriptors,
                        _ => StartFault::Own,
                    },
                }),
                Vec::new(),
            );
        }
        let dies = self.luck(random, FaultKind::DieBeforeHello, 100);
        let cursed = self.cursed.clone();
        let Some(process) = self.processes.get_mut(&worker) else {
            return (None, Vec::new());
        };
        process.begun = true;
        let pid = u32::try_from(worker.0 & 0xffff_ffff).unwrap_or(1);
        let event = Event::WorkerStarted { worker, pid };
        let act = match dies || cursed.as_ref() == Some(&process.model) && random.permille(700) {
            true => ScriptedStep::Die(crash(11)),
            false => ScriptedStep::Hello,
        };
        let beat = later(worker, 0, BEAT, ScriptedStep::Beat);
        (
            Some(event),
            vec![later(worker, 0, random.from(MS, 30 * MS), act), beat],
        )
    }

    fn hello(
        &mut self,
        worker: Generation,
        random: &mut SeededRandom,
    ) -> (Option<Event>, Vec<Scheduled>) {
        let next = later(worker, 0, random.from(1, 300 * MS), ScriptedStep::Load(0));
        (Some(Event::WorkerSaidHello { worker }), vec![next])
    }

    fn load(
        &mut self,
        worker: Generation,
        permille: u16,
        random: &mut SeededRandom,
    ) -> (Option<Event>, Vec<Scheduled>) {
        let exit = [
            (FaultKind::DieLoading, crash(11)),
            (FaultKind::CannotLoad, Exit::Code(78)),
            (FaultKind::OutOfMemoryLoading, Exit::Code(75)),
        ];
        for (fault, exit) in exit {
            if self.luck(random, fault, 8) {
                let die = vec![later(
                    worker,
                    0,
                    random.from(1, 5 * MS),
                    ScriptedStep::Die(exit),
                )];
                let message = "a tensor is missing".to_string();
                let said = Event::LoadFailed { worker, message };
                return ((fault == FaultKind::CannotLoad).then_some(said), die);
            }
        }
        let stuck =
            self.luck(random, FaultKind::Stuck, 10) | self.luck(random, FaultKind::HungLoads, 60);
        let fat = self.luck(random, FaultKind::Fat, 200);
        let Some(process) = self.processes.get_mut(&worker) else {
            return (None, Vec::new());
        };
        process.stuck |= stuck;
        if permille >= 1000 {
            process.ready = true;
            let footprint = fat.then(|| footprint(random));
            return (Some(Event::WorkerReady { worker, footprint }), Vec::new());
        }
        let permille = (permille + 250).min(1000);
        let next = later(
            worker,
            0,
            random.from(50 * MS, 900 * MS),
            ScriptedStep::Load(permille),
        );
        (Some(Event::LoadProgressed { worker, permille }), vec![next])
    }

    fn step(
        &mut self,
        worker: Generation,
        random: &mut SeededRandom,
    ) -> (Option<Event>, Vec<Scheduled>) {
        let dies = self.luck(random, FaultKind::DieDrawing, 45);
        let oom = self.luck(random, FaultKind::OutOfMemory, 8);
        let gone = self.luck(random, FaultKind::DeviceLost, 2);
        let context = self.luck(random, FaultKind::ContextLost, 6);
        let lost = gone | context;
        let allocates = self.luck(random, FaultKind::AllocationFails, 500);
        let nan = self.luck(random, FaultKind::NotFinite, 6);
        let garbage = self.luck(random, FaultKind::Garbage, 6);
        let pause = self.luck(random, FaultKind::Pause, 8);
        let Some(process) = self.processes.get_mut(&worker) else {
            return (None, Vec::new());
        };
        let episode = process.episode;
        let Some(drawing) = process.job.as_mut() else {
            return (None, Vec::new());
        };
        let job = drawing.job;
        if drawing.poison && self.faults.has(FaultKind::Poison) {
            return (None, vec![later(worker, 0, 1, ScriptedStep::Die(crash(6)))]);
        }
        if drawing.doomed && self.faults.has(FaultKind::Doomed) && random.permille(850) {
            let exit = killed(9, KilledBy::Other);
            return (None, vec![later(worker, 0, 1, ScriptedStep::Die(exit))]);
        }
        if dies || oom && random.permille(500) || lost {
            let own = [crash(11), crash(6), Exit::Code(85)][random.below(3)];
            let exit = match (dies, oom) {
                (true, _) => own,
                (false, true) if allocates => killed(6, KilledBy::AllocationFailed),
                (false, true) => Exit::Code(if random.permille(500) { 75 } else { 80 }),
                (false, false) => Exit::Code(if context { 81 } else { 82 }),
            };
            return (
                None,
                vec![later(
                    worker,
                    0,
                    random.from(1, MS),
                    ScriptedStep::Die(exit),
                )],
            );
        }
        if oom || nan {
            let fault = match oom {
                true => pool::JobFault::OutOfMemory {
                    message: "attention".into(),
                },
                false => pool::JobFault::NotFinite {
                    stage: "step".into(),
                },
            };
            process.job = None;
            return (Some(Event::JobFailed { worker, job, fault }), Vec::new());
        }
        if garbage && random.permille(300) {
            let step = drawing.steps + 1 + random.below(3) as u32;
            return (Some(Event::StepFinished { worker, job, step }), Vec::new());
        }
        if garbage {
            let what = "a frame that cannot be".into();
            return (
                Some(Event::WorkerBrokeProtocol { worker, what }),
                Vec::new(),
            );
        }
        drawing.step += 1;
        let (step, step_us) = (drawing.step, drawing.step_us);
        let (act, takes) = match step >= drawing.steps {
            true => (ScriptedStep::Done, drawing.decode_us),
            false => (ScriptedStep::Step, step_us),
        };
        let mut next = vec![later(worker, episode, takes, act)];
        if pause {
            process.silent = true;
            let wakes = random.from(500 * MS, 8000 * MS);
            next = vec![later(worker, 0, wakes, ScriptedStep::Resume)];
        }
        (Some(Event::StepFinished { worker, job, step }), next)
    }

    /// SIGCONT: the process resumes where it stopped.
    fn resume(&mut self, worker: Generation) -> (Option<Event>, Vec<Scheduled>) {
        let Some(process) = self.processes.get_mut(&worker) else {
            return (None, Vec::new());
        };
        process.silent = false;
        let mut next = vec![later(worker, 0, BEAT, ScriptedStep::Beat)];
        if let Some(drawing) = &process.job {
            let act = if drawing.step >= drawing.steps {
                ScriptedStep::Done
            } else {
                ScriptedStep::Step
            };
            let act = if drawing.cancelled {
                ScriptedStep::Unwound
            } else {
                act
            };
            next.push(later(worker, process.episode, drawing.step_us, act));
        }
        if process.asked && !process.ignores_ask {
            next.push(later(worker, 0, MS, ScriptedStep::Die(Exit::Code(0))));
        }
        (Some(Event::WorkerHeard { worker }), next)
    }

    fn done(
        &mut self,
        worker: Generation,
        random: &mut SeededRandom,
    ) -> (Option<Event>, Vec<Scheduled>) {
        let dies = self.luck(random, FaultKind::DieIdle, 80);
        let Some(process) = self.processes.get_mut(&worker) else {
            return (None, Vec::new());
        };
        let Some(drawing) = process.job.take() else {
            return (None, Vec::new());
        };
        let phases = Phases {
            encode: std::time::Duration::from_micros(drawing.step_us / 2),
            decode: std::time::Duration::from_micros(drawing.decode_us),
            ..Phases::default()
        };
        let event = Event::JobFinished {
            worker,
            job: drawing.job,
            phases,
        };
        let die = later(
            worker,
            0,
            random.from(0, 50 * MS),
            ScriptedStep::Die(crash(11)),
        );
        (Some(event), if dies { vec![die] } else { Vec::new() })
    }

    fn unwound(&mut self, worker: Generation) -> (Option<Event>, Vec<Scheduled>) {
        let job = self
            .processes
            .get_mut(&worker)
            .and_then(|process| process.job.take());
        let fault = pool::JobFault::Cancelled;
        let event = job.map(|drawing| Event::JobFailed {
            worker,
            job: drawing.job,
            fault,
        });
        (event, Vec::new())
    }

    fn die(&mut self, worker: Generation, exit: Exit, random: &mut SeededRandom) -> Vec<Scheduled> {
        let Some(process) = self.processes.get_mut(&worker) else {
            return Vec::new();
        };
        if !process.alive {
            return Vec::new();
        }
        if !process.begun {
            // The pid is not known yet: the driver sends the signal as soon as it is.
            return vec![later(worker, 0, 5 * MS, ScriptedStep::Die(exit))];
        }
        process.alive = false;
        vec![later(
            worker,
            0,
            random.from(0, 20 * MS),
            ScriptedStep::Reap(exit),
        )]
    }

    fn reap(
        &mut self,
        worker: Generation,
        exit: Exit,
        random: &mut SeededRandom,
    ) -> (Option<Event>, Vec<Scheduled>) {
        let Some(process) = self.processes.remove(&worker) else {
            return (None, Vec::new());
        };
        self.deaths += 1;
        let salvaged = process
            .job
            .as_ref()
            .map(|drawing| drawing.step)
            .filter(|&step| step > 0);
        let event = Event::WorkerExited {
            worker,
            exit,
            resume_step: salvaged,
        };
        if self.faults.has(FaultKind::Repeats) && self.gone.len() < 20 {
            self.gone.extend(process.said.map(|said| (worker, said)));
            self.gone.push((worker, event.clone()));
        }
        let late = self.luck(random, FaultKind::LateMemory, 300);
        let in_us = if late {
            random.from(MS, 20_000 * MS)
        } else {
            random.from(0, 300 * MS)
        };
        let back = Scheduled {
            in_us,
            worker,
            episode: 0,
            act: ScriptedStep::MemoryBack,
        };
        (
            Some(event),
            if process.settles {
                vec![back]
            } else {
                Vec::new()
            },
        )
    }
}

fn footprint(random: &mut SeededRandom) -> pool::Footprint {
    pool::Footprint {
        host: ipc_protocol::units::Mebibytes(random.from(50, 400)),
        device: ipc_protocol::units::Mebibytes(random.from(0, 1) * random.from(0, 300)),
    }
}

/// A signal of its own.
fn crash(signal: i32) -> Exit {
    killed(signal, KilledBy::Other)
}

fn killed(signal: i32, by: KilledBy) -> Exit {
    Exit::Signal { signal, by }
}

fn later(worker: Generation, episode: u64, in_us: u64, act: ScriptedStep) -> Scheduled {
    Scheduled {
        in_us,
        worker,
        episode,
        act,
    }
}
