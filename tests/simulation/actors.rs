//! Workers as scripted actors: processes that load, draw, die, hang and lie.

use std::collections::BTreeMap;

use ipc_protocol::ids::{Generation, JobId};
use pool::{CpuTime, Event, Exit, KilledBy, Moment, Phases, Run, Start, StartFault};

use crate::dice::Dice;
use crate::faults::{Fault, Swarm};
use crate::shadow::crash;

const MS: u64 = 1000;
/// Between two heartbeats of a healthy worker, in microseconds.
const BEAT: u64 = 1500 * MS;

/// What an actor does next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Act {
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
pub(crate) struct Later {
    pub(crate) in_us: u64,
    pub(crate) worker: Generation,
    /// Only while the actor is still in this episode; 0 is always.
    pub(crate) episode: u64,
    pub(crate) act: Act,
}

/// One process.
#[derive(Debug)]
struct Actor {
    model: String,
    alive: bool,
    begun: bool,
    ready: bool,
    /// Sends nothing and does nothing.
    silent: bool,
    /// Beats, but does not go on.
    stuck: bool,
    /// Where it is stuck: it computes all the while.
    spins: bool,
    /// Where it is stuck: it says that it works.
    lies: bool,
    /// It gets little of the processor for the job at hand.
    starved: bool,
    /// The kernel does not tell its processor time.
    unknown: bool,
    work: u64,
    cpu: CpuTime,
    cpu_at: Moment,
    asked: bool,
    episode: u64,
    job: Option<Drawing>,
    ignores_ask: bool,
    settles: bool,
    said: Option<Event>,
}

#[derive(Debug)]
struct Drawing {
    job: JobId,
    step: u32,
    steps: u32,
    step_us: u64,
    decode_us: u64,
    poison: bool,
    /// Somebody outside nearly always kills whoever draws it.
    doomed: bool,
    cancelled: bool,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Actors {
    actors: BTreeMap<Generation, Actor>,
    gone: Vec<(Generation, Event)>,
    pub(crate) swarm: Swarm,
    pub(crate) now: Moment,
    /// The model that dies whatever one does.
    pub(crate) cursed: Option<String>,
    pub(crate) deaths: u64,
}

impl Actors {
    pub(crate) fn new(swarm: Swarm) -> Self {
        Self {
            actors: BTreeMap::new(),
            gone: Vec::new(),
            swarm,
            now: Moment::START,
            cursed: None,
            deaths: 0,
        }
    }

    fn luck(&self, dice: &mut Dice, fault: Fault, permille: u64) -> bool {
        self.swarm.has(fault) && dice.permille(permille)
    }

    pub(crate) fn start(&mut self, start: &Start, confirms: bool, dice: &mut Dice) -> Vec<Later> {
        let actor = Actor {
            model: start.model.to_string(),
            alive: true,
            begun: false,
            ready: false,
            silent: false,
            stuck: false,
            spins: dice.permille(400),
            lies: dice.permille(150),
            starved: false,
            unknown: self.luck(dice, Fault::NoEvidence, 300),
            work: 0,
            cpu: CpuTime::default(),
            cpu_at: self.now,
            asked: false,
            episode: 1,
            job: None,
            ignores_ask: self.luck(dice, Fault::IgnoresAsk, 200),
            settles: confirms,
            said: None,
        };
        self.actors.insert(start.worker, actor);
        vec![Later {
            in_us: dice.from(MS, 20 * MS),
            worker: start.worker,
            episode: 0,
            act: Act::Begin,
        }]
    }

    pub(crate) fn run(&mut self, run: &Run, dice: &mut Dice) -> Vec<Later> {
        let slow = self.luck(dice, Fault::Slow, 50);
        let doomed = run.parameters.prompt.contains("doomed");
        let hang = self.luck(dice, Fault::Hang, if doomed { 150 } else { 8 });
        let stuck = self.luck(dice, Fault::Stuck, 8);
        let starved = self.luck(dice, Fault::Starved, 40);
        self.spend(run.worker);
        let Some(actor) = self.actors.get_mut(&run.worker) else {
            return Vec::new();
        };
        actor.episode += 1;
        actor.starved = starved;
        let slower = match (slow, starved) {
            (_, true) => 40,
            (true, false) => 5,
            (false, false) => 1,
        };
        let step_us = dice.from(20, 400) * MS * slower;
        actor.job = Some(Drawing {
            job: run.job,
            step: run.resume_step,
            steps: run.parameters.steps,
            step_us,
            decode_us: step_us * dice.from(1, 12),
            poison: run.parameters.prompt.contains("poison"),
            doomed,
            cancelled: false,
        });
        (actor.silent, actor.stuck) = (actor.silent | hang, actor.stuck | stuck);
        if actor.silent {
            return Vec::new();
        }
        let act = if run.resume_step >= run.parameters.steps {
            Act::Done
        } else {
            Act::Step
        };
        vec![later(run.worker, actor.episode, step_us, act)]
    }

    pub(crate) fn cancel(&mut self, worker: Generation, dice: &mut Dice) -> Vec<Later> {
        let ignores = self.luck(dice, Fault::IgnoresCancel, 200);
        let dies = self.luck(dice, Fault::DieUnwinding, 100);
        let Some(actor) = self.actors.get_mut(&worker) else {
            return Vec::new();
        };
        let Some(drawing) = actor.job.as_mut().filter(|_| actor.alive && !actor.silent) else {
            return Vec::new();
        };
        if dies {
            return vec![later(worker, 0, MS, Act::Die(crash(11)))];
        }
        if ignores {
            actor.stuck = true;
            return Vec::new();
        }
        drawing.cancelled = true;
        actor.episode += 1;
        let rest = dice.from(1, drawing.step_us);
        vec![later(worker, actor.episode, rest, Act::Unwound)]
    }

    pub(crate) fn asked(&mut self, worker: Generation, dice: &mut Dice) -> Vec<Later> {
        let Some(actor) = self.actors.get_mut(&worker) else {
            return Vec::new();
        };
        actor.asked = true;
        if actor.ignores_ask || actor.silent || actor.stuck || !actor.begun {
            return Vec::new();
        }
        vec![later(
            worker,
            0,
            dice.from(1, 200 * MS),
            Act::Die(Exit::Code(0)),
        )]
    }

    pub(crate) fn terminated(&mut self, worker: Generation, dice: &mut Dice) -> Vec<Later> {
        let Some(actor) = self.actors.get_mut(&worker) else {
            return Vec::new();
        };
        if actor.silent || !actor.begun || actor.ignores_ask && dice.permille(500) {
            return Vec::new();
        }
        let exit = killed(15, KilledBy::Us);
        vec![later(worker, 0, dice.from(1, 100 * MS), Act::Die(exit))]
    }

    pub(crate) fn killed(&mut self, worker: Generation, dice: &mut Dice) -> Vec<Later> {
        let exit = killed(9, KilledBy::Us);
        vec![later(worker, 0, dice.from(1, 10 * MS), Act::Die(exit))]
    }

    /// Somebody outside kills one of them.
    pub(crate) fn kill_one(&mut self, dice: &mut Dice) -> Vec<Later> {
        let alive: Vec<Generation> = self
            .actors
            .iter()
            .filter(|(_, actor)| actor.alive && actor.begun)
            .map(|(&worker, _)| worker)
            .collect();
        if alive.is_empty() {
            return Vec::new();
        }
        let worker = alive[dice.below(alive.len())];
        let oom = self.luck(dice, Fault::KernelOom, 300);
        let exit = match (oom, self.luck(dice, Fault::Sigbus, 200)) {
            (true, _) => killed(9, KilledBy::KernelOom),
            (false, true) => killed(7, KilledBy::Other),
            (false, false) => killed([9, 15, 2, 1, 3][dice.below(5)], KilledBy::Other),
        };
        vec![later(worker, 0, 0, Act::Die(exit))]
    }

    /// The probe looked at one of them.
    pub(crate) fn weigh_one(&mut self, dice: &mut Dice) -> Option<Event> {
        let alive = self
            .actors
            .iter()
            .filter(|(_, actor)| actor.alive && actor.begun);
        let alive: Vec<Generation> = alive.map(|(&worker, _)| worker).collect();
        let worker = *alive.get(dice.below(alive.len()))?;
        let footprint = match self.luck(dice, Fault::Fat, 300) {
            true => footprint(dice),
            false => pool::Footprint::default(),
        };
        Some(Event::FootprintMeasured { worker, footprint })
    }

    /// A message of one that is gone comes after all.
    pub(crate) fn echo(&mut self, dice: &mut Dice) -> Option<Event> {
        if self.gone.is_empty() {
            return None;
        }
        let nth = dice.below(self.gone.len());
        Some(self.gone.swap_remove(nth).1)
    }

    /// What the actor does now: what the pool hears, and what follows.
    pub(crate) fn act(&mut self, what: Later, dice: &mut Dice) -> (Option<Event>, Vec<Later>) {
        let worker = what.worker;
        if what.act == Act::MemoryBack {
            return (Some(Event::MemoryReturned { worker }), Vec::new());
        }
        self.spend(worker);
        if what.act == Act::Sample {
            let known = self.actors.get(&worker).filter(|actor| !actor.unknown);
            let cpu = known.map(|actor| actor.cpu);
            return (Some(Event::CpuMeasured { worker, cpu }), Vec::new());
        }
        let Some(actor) = self.actors.get(&worker) else {
            return (None, Vec::new());
        };
        if what.episode != 0 && what.episode != actor.episode {
            return (None, Vec::new());
        }
        let (event, next) = match what.act {
            Act::Reap(exit) => return self.reap(worker, exit, dice),
            Act::Die(exit) => return (None, self.die(worker, exit, dice)),
            _ if !actor.alive => (None, Vec::new()),
            Act::Begin => self.begin(worker, dice),
            Act::Resume => self.resume(worker),
            _ if actor.silent => (None, Vec::new()),
            Act::Beat => {
                let next = vec![later(worker, 0, BEAT, Act::Beat)];
                (Some(self.beat(worker)), next)
            }
            Act::Repeat => (actor.said.clone(), Vec::new()),
            _ if actor.stuck => (None, Vec::new()),
            Act::Hello => self.hello(worker, dice),
            Act::Load(permille) => self.load(worker, permille, dice),
            Act::Step => self.step(worker, dice),
            Act::Done => self.done(worker, dice),
            Act::Unwound => self.unwound(worker),
            Act::MemoryBack | Act::Sample => (None, Vec::new()),
        };
        self.remember(worker, event, next, dice)
    }

    fn remember(
        &mut self,
        worker: Generation,
        event: Option<Event>,
        mut next: Vec<Later>,
        dice: &mut Dice,
    ) -> (Option<Event>, Vec<Later>) {
        if let Some(event) = &event
            && self.swarm.has(Fault::Repeats)
        {
            if dice.permille(50) {
                next.push(later(worker, 0, dice.from(0, 800 * MS), Act::Repeat));
            }
            if let Some(actor) = self.actors.get_mut(&worker) {
                actor.said = Some(event.clone());
            }
        }
        (event, next)
    }

    /// A sign of life; who works counts what is done, and so does who only says so.
    fn beat(&mut self, worker: Generation) -> Event {
        let counts = !self.swarm.has(Fault::Uncounted);
        let Some(actor) = self.actors.get_mut(&worker) else {
            return Event::WorkerHeard { worker };
        };
        let works = !actor.ready || actor.job.is_some();
        let goes_on = !actor.stuck && !actor.starved || actor.stuck && actor.lies;
        match counts && works {
            true => {
                actor.work += u64::from(goes_on);
                let work = actor.work;
                Event::WorkerWorked { worker, work }
            }
            false => Event::WorkerHeard { worker },
        }
    }

    /// The kernel is asked; where it does not answer, nobody does.
    pub(crate) fn measured(&mut self, worker: Generation, dice: &mut Dice) -> Vec<Later> {
        match self.luck(dice, Fault::NoEvidence, 100) {
            true => Vec::new(),
            false => vec![later(worker, 0, dice.from(1, 30 * MS), Act::Sample)],
        }
    }

    /// Processor time up to now, by what it did since it was looked at last.
    fn spend(&mut self, worker: Generation) {
        let now = self.now;
        let Some(actor) = self.actors.get_mut(&worker) else {
            return;
        };
        let spent = now.since(std::mem::replace(&mut actor.cpu_at, now));
        let works = !actor.ready || actor.job.is_some();
        actor.cpu.blocked = false;
        match (actor.silent, actor.stuck, works) {
            (false, false, true) if actor.starved => {
                actor.cpu.ran += spent / 50;
                actor.cpu.waited += spent * 49 / 50;
            }
            (false, false, true) => actor.cpu.ran += spent,
            (false, true, _) if actor.spins => actor.cpu.ran += spent,
            _ => {}
        }
    }

    fn begin(&mut self, worker: Generation, dice: &mut Dice) -> (Option<Event>, Vec<Later>) {
        if self.luck(dice, Fault::SpawnFails, 40) {
            self.actors.remove(&worker);
            let message = "resource temporarily unavailable".into();
            return (
                Some(Event::WorkerStartFailed {
                    worker,
                    message,
                    fault: match dice.permille(800) {
                        true => StartFault::Own,
                        false => StartFault::Program,
                    },
                }),
                Vec::new(),
            );
        }
        let dies = self.luck(dice, Fault::DieBeforeHello, 100);
        let cursed = self.cursed.clone();
        let Some(actor) = self.actors.get_mut(&worker) else {
            return (None, Vec::new());
        };
        actor.begun = true;
        let pid = u32::try_from(worker.0 & 0xffff_ffff).unwrap_or(1);
        let event = Event::WorkerStarted { worker, pid };
        let act = match dies || cursed.as_ref() == Some(&actor.model) && dice.permille(700) {
            true => Act::Die(crash(11)),
            false => Act::Hello,
        };
        let beat = later(worker, 0, BEAT, Act::Beat);
        (
            Some(event),
            vec![later(worker, 0, dice.from(MS, 30 * MS), act), beat],
        )
    }

    fn hello(&mut self, worker: Generation, dice: &mut Dice) -> (Option<Event>, Vec<Later>) {
        let next = later(worker, 0, dice.from(1, 300 * MS), Act::Load(0));
        (Some(Event::WorkerSaidHello { worker }), vec![next])
    }

    fn load(
        &mut self,
        worker: Generation,
        permille: u16,
        dice: &mut Dice,
    ) -> (Option<Event>, Vec<Later>) {
        let exit = [
            (Fault::DieLoading, crash(11)),
            (Fault::CannotLoad, Exit::Code(78)),
            (Fault::OutOfMemoryLoading, Exit::Code(75)),
        ];
        for (fault, exit) in exit {
            if self.luck(dice, fault, 8) {
                let die = vec![later(worker, 0, dice.from(1, 5 * MS), Act::Die(exit))];
                let message = "a tensor is missing".to_string();
                let said = Event::LoadFailed { worker, message };
                return ((fault == Fault::CannotLoad).then_some(said), die);
            }
        }
        let stuck = self.luck(dice, Fault::Stuck, 10) | self.luck(dice, Fault::HungLoads, 60);
        let fat = self.luck(dice, Fault::Fat, 200);
        let Some(actor) = self.actors.get_mut(&worker) else {
            return (None, Vec::new());
        };
        actor.stuck |= stuck;
        if permille >= 1000 {
            actor.ready = true;
            let footprint = fat.then(|| footprint(dice));
            return (Some(Event::WorkerReady { worker, footprint }), Vec::new());
        }
        let permille = (permille + 250).min(1000);
        let next = later(worker, 0, dice.from(50 * MS, 900 * MS), Act::Load(permille));
        (Some(Event::LoadProgressed { worker, permille }), vec![next])
    }

    fn step(&mut self, worker: Generation, dice: &mut Dice) -> (Option<Event>, Vec<Later>) {
        let dies = self.luck(dice, Fault::DieDrawing, 45);
        let oom = self.luck(dice, Fault::OutOfMemory, 8);
        let gone = self.luck(dice, Fault::DeviceLost, 2);
        let context = self.luck(dice, Fault::ContextLost, 6);
        let lost = gone | context;
        let allocates = self.luck(dice, Fault::AllocationFails, 500);
        let nan = self.luck(dice, Fault::NotFinite, 6);
        let garbage = self.luck(dice, Fault::Garbage, 6);
        let pause = self.luck(dice, Fault::Pause, 8);
        let Some(actor) = self.actors.get_mut(&worker) else {
            return (None, Vec::new());
        };
        let episode = actor.episode;
        let Some(drawing) = actor.job.as_mut() else {
            return (None, Vec::new());
        };
        let job = drawing.job;
        if drawing.poison && self.swarm.has(Fault::Poison) {
            return (None, vec![later(worker, 0, 1, Act::Die(crash(6)))]);
        }
        if drawing.doomed && self.swarm.has(Fault::Doomed) && dice.permille(850) {
            let exit = killed(9, KilledBy::Other);
            return (None, vec![later(worker, 0, 1, Act::Die(exit))]);
        }
        if dies || oom && dice.permille(500) || lost {
            let own = [crash(11), crash(6), Exit::Code(85)][dice.below(3)];
            let exit = match (dies, oom) {
                (true, _) => own,
                (false, true) if allocates => killed(6, KilledBy::AllocationFailed),
                (false, true) => Exit::Code(if dice.permille(500) { 75 } else { 80 }),
                (false, false) => Exit::Code(if context { 81 } else { 82 }),
            };
            return (
                None,
                vec![later(worker, 0, dice.from(1, MS), Act::Die(exit))],
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
            actor.job = None;
            return (Some(Event::JobFailed { worker, job, fault }), Vec::new());
        }
        if garbage && dice.permille(300) {
            let step = drawing.steps + 1 + dice.below(3) as u32;
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
            true => (Act::Done, drawing.decode_us),
            false => (Act::Step, step_us),
        };
        let mut next = vec![later(worker, episode, takes, act)];
        if pause {
            actor.silent = true;
            let wakes = dice.from(500 * MS, 8000 * MS);
            next = vec![later(worker, 0, wakes, Act::Resume)];
        }
        (Some(Event::StepFinished { worker, job, step }), next)
    }

    /// SIGCONT: it goes on where it was and knows nothing of the time between.
    fn resume(&mut self, worker: Generation) -> (Option<Event>, Vec<Later>) {
        let Some(actor) = self.actors.get_mut(&worker) else {
            return (None, Vec::new());
        };
        actor.silent = false;
        let mut next = vec![later(worker, 0, BEAT, Act::Beat)];
        if let Some(drawing) = &actor.job {
            let act = if drawing.step >= drawing.steps {
                Act::Done
            } else {
                Act::Step
            };
            let act = if drawing.cancelled { Act::Unwound } else { act };
            next.push(later(worker, actor.episode, drawing.step_us, act));
        }
        if actor.asked && !actor.ignores_ask {
            next.push(later(worker, 0, MS, Act::Die(Exit::Code(0))));
        }
        (Some(Event::WorkerHeard { worker }), next)
    }

    fn done(&mut self, worker: Generation, dice: &mut Dice) -> (Option<Event>, Vec<Later>) {
        let dies = self.luck(dice, Fault::DieIdle, 80);
        let Some(actor) = self.actors.get_mut(&worker) else {
            return (None, Vec::new());
        };
        let Some(drawing) = actor.job.take() else {
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
        let die = later(worker, 0, dice.from(0, 50 * MS), Act::Die(crash(11)));
        (Some(event), if dies { vec![die] } else { Vec::new() })
    }

    fn unwound(&mut self, worker: Generation) -> (Option<Event>, Vec<Later>) {
        let job = self
            .actors
            .get_mut(&worker)
            .and_then(|actor| actor.job.take());
        let fault = pool::JobFault::Cancelled;
        let event = job.map(|drawing| Event::JobFailed {
            worker,
            job: drawing.job,
            fault,
        });
        (event, Vec::new())
    }

    fn die(&mut self, worker: Generation, exit: Exit, dice: &mut Dice) -> Vec<Later> {
        let Some(actor) = self.actors.get_mut(&worker) else {
            return Vec::new();
        };
        if !actor.alive {
            return Vec::new();
        }
        if !actor.begun {
            // The pid is not known yet: the driver sends the signal as soon as it is.
            return vec![later(worker, 0, 5 * MS, Act::Die(exit))];
        }
        actor.alive = false;
        vec![later(worker, 0, dice.from(0, 20 * MS), Act::Reap(exit))]
    }

    fn reap(
        &mut self,
        worker: Generation,
        exit: Exit,
        dice: &mut Dice,
    ) -> (Option<Event>, Vec<Later>) {
        let Some(actor) = self.actors.remove(&worker) else {
            return (None, Vec::new());
        };
        self.deaths += 1;
        let salvaged = actor
            .job
            .as_ref()
            .map(|drawing| drawing.step)
            .filter(|&step| step > 0);
        let event = Event::WorkerExited {
            worker,
            exit,
            resume_step: salvaged,
        };
        if self.swarm.has(Fault::Repeats) && self.gone.len() < 20 {
            self.gone.extend(actor.said.map(|said| (worker, said)));
            self.gone.push((worker, event.clone()));
        }
        let late = self.luck(dice, Fault::LateMemory, 300);
        let in_us = if late {
            dice.from(MS, 20_000 * MS)
        } else {
            dice.from(0, 300 * MS)
        };
        let back = Later {
            in_us,
            worker,
            episode: 0,
            act: Act::MemoryBack,
        };
        (
            Some(event),
            if actor.settles {
                vec![back]
            } else {
                Vec::new()
            },
        )
    }
}

fn footprint(dice: &mut Dice) -> pool::Footprint {
    pool::Footprint {
        host: ipc_protocol::units::Mebibytes(dice.from(50, 400)),
        device: ipc_protocol::units::Mebibytes(dice.from(0, 1) * dice.from(0, 300)),
    }
}

fn killed(signal: i32, by: KilledBy) -> Exit {
    Exit::Signal { signal, by }
}

fn later(worker: Generation, episode: u64, in_us: u64, act: Act) -> Later {
    Later {
        in_us,
        worker,
        episode,
        act,
    }
}
