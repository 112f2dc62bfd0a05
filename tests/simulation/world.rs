//! One world: a virtual clock, clients, operators and actors around a real pool.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use ipc_protocol::ids::{Device, JobId};
use ipc_protocol::units::Mebibytes;
use pool::{Action, Drain, Event, Moment, Notice, Pool, Registry, Ticket};

use crate::actors::{Actors, Later};
use crate::checks::{self, Checks};
use crate::dice::Dice;
use crate::faults::Fault;
use crate::operators;
use crate::oracle::Oracle;
use crate::plan::{Plan, name};
use crate::requests;
use crate::shadow::{Shadow, Verdict};
use crate::trace;
use crate::waits::Waits;

/// Everything is computed again after so many events.
const COMPARE_EVERY: u64 = 160;
/// Everything accepted is answered this long after the last fault.
const LIVENESS: Duration = Duration::from_secs(3600);
/// Deadlines that may fire at one moment.
const SPIN_MAX: u32 = 64;

/// What became of a world.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tally {
    pub(crate) events: u64,
    /// Events that changed the pool: it acted, or a worker or the books moved on.
    pub(crate) changes: u64,
    pub(crate) deaths: u64,
    pub(crate) answers: u64,
    pub(crate) pictures: u64,
    pub(crate) swaps: u64,
    pub(crate) overtakes: u64,
}

/// Where and how it went wrong.
#[derive(Debug, Clone)]
pub(crate) struct Violation {
    pub(crate) event: u64,
    pub(crate) what: String,
    /// The last events, one aligned line each.
    pub(crate) lines: Vec<String>,
}

pub(crate) struct World {
    plan: Plan,
    dice: Dice,
    now: Moment,
    pool: Pool,
    shadow: Shadow,
    oracle: Oracle,
    waits: Waits,
    checks: Checks,
    actors: Actors,
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    todo: BTreeMap<u64, Todo>,
    sequence: u64,
    tickets: BTreeMap<Ticket, Asking>,
    owners: BTreeMap<JobId, Ticket>,
    last_ticket: u64,
    /// What the pool said is in quarantine.
    quarantined: BTreeSet<String>,
    confirms: BTreeSet<Device>,
    registry: Registry,
    quiet: bool,
    actions: Vec<Action>,
    lines: Option<Vec<String>>,
    tally: Tally,
}

#[derive(Debug, Clone)]
enum Todo {
    Client(usize),
    Actor(Later),
    Trouble,
    Quiet,
    Drain,
}

/// A request whose client waits.
#[derive(Debug)]
struct Asking {
    client: usize,
    open: u32,
}

impl World {
    pub(crate) fn new(plan: &Plan, tracing: bool) -> Self {
        let mut dice = Dice::new(plan.seed ^ 0xabcd);
        let settings = plan.settings(&mut dice);
        let registry = plan.registry(&mut dice);
        let limits = plan.device_limits(&mut dice);
        let mut actors = Actors::new(plan.swarm);
        if plan.swarm.has(Fault::CrashLoop) {
            actors.cursed = Some(name(dice.below(plan.models)).into());
        }
        let confirms = limits
            .iter()
            .filter(|limit| limit.confirms)
            .map(|limit| limit.device);
        let mut world = Self {
            plan: plan.clone(),
            now: Moment::START,
            shadow: Shadow::new(&settings, &registry, &limits),
            oracle: Oracle::new(&settings, &registry, &limits),
            waits: Waits::new(&settings, &registry, &limits),
            checks: Checks::new(&settings, &registry, &limits),
            confirms: confirms.collect(),
            pool: Pool::new(settings, registry.clone(), limits),
            registry,
            actors,
            heap: BinaryHeap::new(),
            todo: BTreeMap::new(),
            sequence: 0,
            tickets: BTreeMap::new(),
            owners: BTreeMap::new(),
            last_ticket: 0,
            quarantined: BTreeSet::new(),
            quiet: false,
            actions: Vec::new(),
            lines: tracing.then(Vec::new),
            tally: Tally::default(),
            dice,
        };
        for client in 0..plan.clients {
            let first = world.dice.from(0, 2_000_000);
            world.later(first, Todo::Client(client));
        }
        world.later(100_000, Todo::Trouble);
        world
    }

    /// Lives it to its end.
    pub(crate) fn live(mut self) -> Result<Tally, Violation> {
        match self.run() {
            Ok(()) => {
                self.tally.deaths = self.actors.deaths;
                self.tally.answers = self.shadow.answers;
                self.tally.pictures = self.shadow.pictures;
                let counters = self.pool.snapshot(self.now).counters;
                self.tally.swaps = counters.swaps;
                self.tally.overtakes = counters.overtakes_max;
                Ok(self.tally)
            }
            Err(what) => Err(Violation {
                event: self.tally.events,
                what,
                lines: self.lines.unwrap_or_default(),
            }),
        }
    }

    fn run(&mut self) -> Verdict {
        checks::check_rules(&self.registry)?;
        while self.tally.events < self.plan.events && !self.shadow.has_exited() {
            self.next()?;
        }
        self.calm_down();
        let until = self.now + LIVENESS;
        while self.shadow.live_jobs() > 0 {
            if self.now > until {
                let text = self
                    .shadow
                    .job_of(0)
                    .map(|job| self.pool.explain(self.now, job));
                return Err(format!(
                    "{} jobs are not answered an hour after the last fault: {text:?}",
                    self.shadow.live_jobs()
                ));
            }
            self.next()?;
        }
        if self.plan.swarm.0 == 0 {
            self.shadow.check_no_failures()?;
        }
        self.later(1, Todo::Drain);
        let until = self.now + LIVENESS;
        while !self.shadow.has_exited() {
            if self.now > until {
                return Err(format!(
                    "drained and {} workers left",
                    self.shadow.live_workers()
                ));
            }
            self.next()?;
        }
        self.shadow.compare(self.now, &self.pool)?;
        self.shadow.check_rest(&self.pool)
    }

    /// Faults stop, what was broken may mend, nobody asks for anything new.
    fn calm_down(&mut self) {
        self.quiet = true;
        self.actors.swarm = self.actors.swarm.without(Fault::CrashLoop);
        self.actors.swarm.0 = 0;
        self.actors.cursed = None;
        self.later(1, Todo::Quiet);
    }

    fn later(&mut self, in_us: u64, todo: Todo) {
        self.sequence += 1;
        self.heap.push(Reverse((self.now.0 + in_us, self.sequence)));
        self.todo.insert(self.sequence, todo);
    }

    /// The next thing that happens, whether the pool's own deadline or the world's doing.
    fn next(&mut self) -> Verdict {
        let world = self.heap.peek().map(|Reverse((at, _))| *at);
        let deadline = self.pool.next_deadline().map(|at| at.0.max(self.now.0));
        match (world, deadline) {
            (Some(at), Some(due)) if due <= at => self.deadline(due),
            (None, Some(due)) => self.deadline(due),
            (Some(at), _) => {
                // What happened while the driver could not run is heard afterwards.
                self.now = self.now.max(Moment(at));
                let Some(Reverse((_, id))) = self.heap.pop() else {
                    return Ok(());
                };
                match self.todo.remove(&id) {
                    Some(todo) => self.happen(todo),
                    None => Ok(()),
                }
            }
            (None, None) => Err("nothing will ever happen again".into()),
        }
    }

    fn deadline(&mut self, due: u64) -> Verdict {
        self.now = Moment(due);
        self.feed(Event::DeadlineReached)?;
        let mut spins = 0;
        while self.pool.next_deadline().is_some_and(|at| at <= self.now) {
            spins += 1;
            if spins > SPIN_MAX {
                return Err("deadlines without end at one moment".into());
            }
            self.feed(Event::DeadlineReached)?;
        }
        Ok(())
    }

    fn happen(&mut self, todo: Todo) -> Verdict {
        match todo {
            Todo::Client(client) => self.client_acts(client),
            Todo::Actor(later) => self.actor_acts(later),
            Todo::Trouble => self.trouble(),
            Todo::Quiet => self.quieten(),
            Todo::Drain => {
                self.feed(Event::DrainRequested {
                    ticket: None,
                    drain: Drain::Exit,
                })?;
                self.ask(0)
            }
        }
    }

    fn actor_acts(&mut self, later: Later) -> Verdict {
        self.actors.now = self.now;
        let (event, next) = self.actors.act(later, &mut self.dice);
        for later in next {
            self.later(later.in_us, Todo::Actor(later));
        }
        match event {
            Some(event) => self.feed(event),
            None => Ok(()),
        }
    }

    fn has(&self, fault: Fault) -> bool {
        !self.quiet && self.plan.swarm.has(fault)
    }

    fn client_acts(&mut self, client: usize) -> Verdict {
        match self.quiet {
            true => Ok(()),
            false => self.ask(client),
        }
    }

    fn ask(&mut self, client: usize) -> Verdict {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let request = requests::draw(&self.plan, client, &mut self.dice);
        let open = request.count;
        self.tickets.insert(ticket, Asking { client, open });
        let user = format!("uid:{}", client % self.plan.users);
        let entropy = self.dice.next();
        self.feed(Event::RequestArrived {
            ticket,
            request,
            user,
            entropy,
        })
    }

    /// What is nobody's turn: clients that leave, operators, kills, lost devices.
    fn trouble(&mut self) -> Verdict {
        if self.quiet {
            return Ok(());
        }
        let next = self.dice.from(10_000, 600_000);
        self.later(next, Todo::Trouble);
        if self.has(Fault::Massacre) && self.tally.events % 2000 < 600 {
            self.somebody_kills(3)?;
        }
        match self.dice.from(0, 8) {
            0 if self.has(Fault::ClientGone) => self.client_leaves(),
            1 | 2 if self.has(Fault::Cancels) => self.somebody_cancels(),
            3 if self.has(Fault::KilledFromOutside) || self.has(Fault::KernelOom) => {
                self.somebody_kills(1)
            }
            4 if self.has(Fault::Repeats) => match self.actors.echo(&mut self.dice) {
                Some(event) => self.feed(event),
                None => Ok(()),
            },
            5 if self.has(Fault::Operator) && self.dice.permille(300) => self.operator(),
            8 if self.has(Fault::Drains) && self.tally.events * 10 > self.plan.events * 7 => {
                self.winds_down()
            }
            6 if self.has(Fault::Registry) && self.dice.permille(200) => self.registry_changes(),
            7 if self.dice.permille(60) => self.stall(),
            7 => self.measure(),
            _ => Ok(()),
        }
    }

    /// Somebody outside, or the kernel, ends workers.
    fn somebody_kills(&mut self, count: u64) -> Verdict {
        for _ in 0..count {
            for later in self.actors.kill_one(&mut self.dice) {
                self.later(later.in_us, Todo::Actor(later));
            }
        }
        Ok(())
    }

    /// The driver cannot run for a while. What is due is done then, before anything that happened meanwhile is
    /// heard.
    fn stall(&mut self) -> Verdict {
        let lasted = Duration::from_micros(self.dice.from(500_000, 20_000_000));
        self.now = self.now + lasted;
        self.feed(Event::LoopStalled { lasted })?;
        self.deadline(self.now.0)
    }

    fn client_leaves(&mut self) -> Verdict {
        let nth = self.dice.below(self.tickets.len());
        let Some((&ticket, asking)) = self.tickets.iter().nth(nth) else {
            return Ok(());
        };
        let client = asking.client;
        self.tickets.remove(&ticket);
        self.later(500_000, Todo::Client(client));
        self.feed(Event::ClientGone { ticket })
    }

    fn somebody_cancels(&mut self) -> Verdict {
        let nth = self.dice.below(200);
        let job = match self.dice.permille(900) {
            true => self.shadow.job_of(nth),
            false => Some(JobId(self.dice.from(0, 100_000))),
        };
        let by = "uid:0".to_string();
        match job {
            Some(job) => self.feed(Event::RequestCancelled { job, by }),
            None => Ok(()),
        }
    }

    /// Somebody ends it while there is work left.
    fn winds_down(&mut self) -> Verdict {
        self.last_ticket += 1;
        let drain = match self.dice.from(0, 3) {
            0 => Drain::Stay,
            1 => Drain::ExitNow,
            _ => Drain::Exit,
        };
        self.feed(Event::DrainRequested {
            ticket: Some(Ticket(self.last_ticket)),
            drain,
        })?;
        // Half of those who only wanted it quiet want it to go on.
        if drain != Drain::Stay || self.dice.from(0, 2) == 0 {
            return Ok(());
        }
        self.last_ticket += 1;
        self.feed(Event::DrainRequested {
            ticket: Some(Ticket(self.last_ticket)),
            drain: Drain::Undo,
        })
    }

    fn operator(&mut self) -> Verdict {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let known = self
            .quarantined
            .iter()
            .nth(self.dice.below(self.quarantined.len()));
        let event = operators::order(&self.plan, ticket, known.cloned(), &mut self.dice);
        self.feed(event)
    }

    fn registry_changes(&mut self) -> Verdict {
        let changed = operators::changed(&self.registry, &mut self.dice);
        let back = Box::new(self.registry.clone());
        self.feed(Event::ModelsChanged {
            registry: Box::new(changed),
        })?;
        match self.dice.permille(700) {
            true => self.feed(Event::ModelsChanged { registry: back }),
            false => Ok(()),
        }
    }

    fn measure(&mut self) -> Verdict {
        match self.dice.permille(300) {
            true => match self.actors.weigh_one(&mut self.dice) {
                Some(event) => self.feed(event),
                None => Ok(()),
            },
            false => {
                let event = operators::measured(&self.plan, &mut self.dice);
                self.feed(event)
            }
        }
    }

    /// The world is mended: registry, devices and stops.
    fn quieten(&mut self) -> Verdict {
        let registry = Box::new(self.registry.clone());
        self.feed(Event::ModelsChanged { registry })?;
        for nth in 0..self.plan.devices {
            self.feed(Event::MemoryMeasured {
                device: operators::device(nth),
                total: None,
                measured: Mebibytes(0),
                foreign: Mebibytes(0),
            })?;
        }
        Ok(())
    }

    /// Gives one event to the pool, carries its actions out, and checks everything.
    fn feed(&mut self, event: Event) -> Verdict {
        let mut actions = std::mem::take(&mut self.actions);
        actions.clear();
        self.shadow.before(&event);
        self.pool.handle(self.now, event.clone(), &mut actions);
        self.tally.events += 1;
        self.tally.changes += u64::from(trace::changes(&event, &actions));
        if let Some(lines) = &mut self.lines {
            lines.push(trace::line(self.now, self.tally.events, &event, &actions));
        }
        let kept = no_defect(&actions);
        let verdict = kept
            .and_then(|()| self.shadow.after(self.now, &event, &actions))
            .and_then(|()| self.oracle.check(self.now, &event, &actions))
            .and_then(|()| self.waits.check(self.now, &event, &actions))
            .and_then(|()| self.checks.check(self.now, &event, &actions));
        for action in &actions {
            self.carry_out(action);
        }
        let admitted = matches!(event, Event::RequestArrived { .. });
        self.actions = actions;
        verdict?;
        if admitted {
            self.shadow.check_queues()?;
        }
        if !self.tally.events.is_multiple_of(COMPARE_EVERY) {
            return Ok(());
        }
        let turn = self.tally.events / COMPARE_EVERY;
        self.shadow.compare(self.now, &self.pool)?;
        self.checks.compare(self.now, &self.pool, turn)
    }

    fn carry_out(&mut self, action: &Action) {
        self.actors.now = self.now;
        let dice = &mut self.dice;
        let next = match action {
            Action::Start(start) => {
                let confirms = self.confirms.contains(&start.device);
                self.actors.start(start, confirms, dice)
            }
            Action::Run(run) => self.actors.run(run, dice),
            Action::Cancel { worker, .. } => self.actors.cancel(*worker, dice),
            Action::AskToLeave { worker } => self.actors.asked(*worker, dice),
            Action::Terminate { worker } => self.actors.terminated(*worker, dice),
            Action::Kill { worker } => self.actors.killed(*worker, dice),
            Action::Accept(accepted) => {
                for &job in &accepted.jobs {
                    self.owners.insert(job, accepted.ticket);
                }
                Vec::new()
            }
            Action::Refuse { ticket, .. } => {
                if let Some(asking) = self.tickets.remove(ticket) {
                    let pause = dice.from(500_000, 10_000_000);
                    self.later(pause, Todo::Client(asking.client));
                }
                Vec::new()
            }
            Action::Answer { job, .. } => {
                self.answered(*job);
                Vec::new()
            }
            Action::Tell(Notice::Quarantined { digest, .. }) => {
                self.quarantined.insert(digest.clone());
                Vec::new()
            }
            Action::Measure { worker } => self.actors.measured(*worker, dice),
            Action::Acknowledge { .. } | Action::Report { .. } | Action::Tell(_) | Action::Exit => {
                Vec::new()
            }
        };
        for later in next {
            self.later(later.in_us, Todo::Actor(later));
        }
    }

    fn answered(&mut self, job: JobId) {
        let Some(ticket) = self.owners.remove(&job) else {
            return;
        };
        let Some(asking) = self.tickets.get_mut(&ticket) else {
            return;
        };
        asking.open -= 1;
        if asking.open == 0 {
            let client = asking.client;
            self.tickets.remove(&ticket);
            let pause = self.dice.from(1, 1_000_000);
            self.later(pause, Todo::Client(client));
        }
    }
}

/// The pool reports no broken rule of its own.
fn no_defect(actions: &[Action]) -> Verdict {
    let defect = |action: &Action| match action {
        Action::Tell(Notice::Defect { what }) => Some(what.clone()),
        _ => None,
    };
    match actions.iter().find_map(defect) {
        Some(what) => Err(format!("defect: {what}")),
        None => Ok(()),
    }
}
