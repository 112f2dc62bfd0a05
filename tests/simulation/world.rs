//! One world: a virtual clock, clients, operators and scripted workers around a real pool.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use ipc_protocol::ids::{Device, JobId};
use ipc_protocol::units::Mebibytes;
use pool::{Action, Drain, Event, Moment, Notice, Pool, Settings, Ticket};

use crate::checks::{self, CheckResult, Checks, WorldClock};
use crate::faults::FaultKind;
use crate::files::{FilesNews, FilesStep, ScriptedFiles};
use crate::operators;
use crate::plan::{WorldPlan, name};
use crate::random::SeededRandom;
use crate::requests;
use crate::scripted::{Scheduled, ScriptedWorkers};
use crate::trace;

/// Everything is computed again after this many events.
const COMPARE_EVERY: u64 = 160;
/// Everything accepted is answered this long after the last fault.
const LIVENESS: Duration = Duration::from_secs(3600);
/// Deadlines that may fire at one moment.
const SPIN_MAX: u32 = 64;

/// The counts of a world.
#[derive(Debug, Default, Clone)]
pub(crate) struct WorldCounts {
    pub(crate) events: u64,
    /// Events that changed the pool: it acted, or a worker or the books moved on.
    pub(crate) changes: u64,
    pub(crate) deaths: u64,
    pub(crate) answers: u64,
    pub(crate) pictures: u64,
    pub(crate) swaps: u64,
    pub(crate) overtakes: u64,
    /// Requests that waited for files, and those of them that became jobs.
    pub(crate) awaited: u64,
    pub(crate) entered: u64,
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
    plan: WorldPlan,
    random: SeededRandom,
    now: Moment,
    pool: Pool,
    checks: Checks,
    scripted: ScriptedWorkers,
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    pending: BTreeMap<u64, WorldEvent>,
    sequence: u64,
    tickets: BTreeMap<Ticket, OpenRequest>,
    owners: BTreeMap<JobId, Ticket>,
    last_ticket: u64,
    /// The quarantined requests, as the pool reported them.
    quarantined: BTreeSet<String>,
    confirms: BTreeSet<Device>,
    /// The settings at the beginning.
    settings: Settings,
    files: ScriptedFiles,
    quiet: bool,
    actions: Vec<Action>,
    lines: Option<Vec<String>>,
    counts: WorldCounts,
}

#[derive(Debug, Clone)]
enum WorldEvent {
    Client(usize),
    ScriptedWorker(Scheduled),
    Disturbance,
    Files(FilesStep),
    Quiet,
    Drain,
    /// A device is measured that was not for a while.
    Measured(Device),
}

/// A request whose client waits.
#[derive(Debug)]
struct OpenRequest {
    client: usize,
    open: u32,
}

impl World {
    pub(crate) fn new(plan: &WorldPlan, tracing: bool) -> Self {
        let mut random = SeededRandom::new(plan.seed ^ 0xabcd);
        let settings = plan.settings(&mut random);
        let registry = plan.registry(&mut random);
        let files = ScriptedFiles::new(registry, plan.faults, &mut random);
        let limits = plan.device_limits(&mut random);
        let mut scripted = ScriptedWorkers::new(plan.faults);
        if plan.faults.has(FaultKind::CrashLoop) {
            scripted.cursed = Some(name(random.below(plan.models)).into());
        }
        let confirms = limits
            .iter()
            .filter(|limit| limit.confirms)
            .map(|limit| limit.device);
        let mut world = Self {
            plan: plan.clone(),
            now: Moment::START,
            checks: Checks::new(&settings, files.known(), &limits, WorldClock::Virtual),
            confirms: confirms.collect(),
            pool: Pool::new(settings.clone(), files.known().clone(), limits),
            settings,
            files,
            scripted,
            heap: BinaryHeap::new(),
            pending: BTreeMap::new(),
            sequence: 0,
            tickets: BTreeMap::new(),
            owners: BTreeMap::new(),
            last_ticket: 0,
            quarantined: BTreeSet::new(),
            quiet: false,
            actions: Vec::new(),
            lines: tracing.then(Vec::new),
            counts: WorldCounts::default(),
            random,
        };
        for client in 0..plan.clients {
            let first = world.random.from(0, 2_000_000);
            world.later(first, WorldEvent::Client(client));
        }
        world.later(100_000, WorldEvent::Disturbance);
        world
    }

    /// Lives it to its end.
    pub(crate) fn live(mut self) -> Result<WorldCounts, Violation> {
        match self.run() {
            Ok(()) => {
                self.counts.deaths = self.scripted.deaths;
                self.counts.answers = self.checks.observed().answers;
                self.counts.pictures = self.checks.observed().pictures;
                self.counts.awaited = self.checks.observed().awaited;
                self.counts.entered = self.checks.observed().entered;
                let counters = self.pool.snapshot(self.now).counters;
                self.counts.swaps = counters.swaps;
                self.counts.overtakes = counters.overtakes_max;
                Ok(self.counts)
            }
            Err(what) => Err(Violation {
                event: self.counts.events,
                what,
                lines: self.lines.unwrap_or_default(),
            }),
        }
    }

    fn run(&mut self) -> CheckResult {
        checks::check_rules(self.files.known())?;
        while self.counts.events < self.plan.events && !self.checks.observed().exited {
            self.next()?;
        }
        self.calm_down();
        let until = self.now + LIVENESS;
        while self.is_busy() {
            if self.now > until {
                let observed = self.checks.observed();
                let (jobs, requests) = (&observed.jobs, &observed.requests);
                let first = jobs.keys().chain(requests.keys()).next();
                let text = first.map(|&job| self.pool.explain(self.now, job));
                return Err(format!(
                    "{} jobs and {} requests have no answer an hour after the last fault: {text:?}",
                    jobs.len(),
                    requests.len()
                ));
            }
            self.next()?;
        }
        if self.plan.faults.0 == 0 {
            self.checks.check_no_failures()?;
        }
        self.later(1, WorldEvent::Drain);
        let until = self.now + LIVENESS;
        while !self.checks.observed().exited {
            if self.now > until {
                return Err(format!(
                    "drained and {} workers left",
                    self.checks.observed().workers.len()
                ));
            }
            self.next()?;
        }
        self.checks.check_end(&self.pool)
    }

    /// Whether a request waits for files, or a job has no answer.
    fn is_busy(&self) -> bool {
        let observed = self.checks.observed();
        !observed.jobs.is_empty() || !observed.requests.is_empty()
    }

    /// Ends the faults and the new requests; broken things may recover.
    fn calm_down(&mut self) {
        self.quiet = true;
        self.scripted.faults = self.scripted.faults.without(FaultKind::CrashLoop);
        self.scripted.faults.0 = 0;
        self.scripted.cursed = None;
        self.later(1, WorldEvent::Quiet);
    }

    fn later(&mut self, in_us: u64, pending: WorldEvent) {
        self.sequence += 1;
        self.heap.push(Reverse((self.now.0 + in_us, self.sequence)));
        self.pending.insert(self.sequence, pending);
    }

    /// The next thing that happens, whether the pool's own deadline or the world's doing.
    fn next(&mut self) -> CheckResult {
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
                match self.pending.remove(&id) {
                    Some(pending) => self.happen(pending),
                    None => Ok(()),
                }
            }
            (None, None) => Err("nothing will ever happen again".into()),
        }
    }

    fn deadline(&mut self, due: u64) -> CheckResult {
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

    fn happen(&mut self, pending: WorldEvent) -> CheckResult {
        match pending {
            WorldEvent::Client(client) => self.client_acts(client),
            WorldEvent::ScriptedWorker(later) => self.actor_acts(later),
            WorldEvent::Disturbance => self.disturb(),
            WorldEvent::Files(step) => {
                let news = self.files.act(step, &mut self.random);
                self.hear_of_files(news)
            }
            WorldEvent::Quiet => self.quieten(),
            WorldEvent::Measured(device) => self.feed(Event::MemoryMeasured {
                device,
                total: None,
                measured: Mebibytes(0),
                foreign: Mebibytes(0),
            }),
            WorldEvent::Drain => {
                self.feed(Event::DrainRequested {
                    ticket: None,
                    drain: Drain::Exit,
                })?;
                self.ask(0)
            }
        }
    }

    fn actor_acts(&mut self, later: Scheduled) -> CheckResult {
        self.scripted.now = self.now;
        let (event, next) = self.scripted.act(later, &mut self.random);
        for later in next {
            self.later(later.in_us, WorldEvent::ScriptedWorker(later));
        }
        match event {
            Some(event) => self.feed(event),
            None => Ok(()),
        }
    }

    fn has(&self, fault: FaultKind) -> bool {
        !self.quiet && self.plan.faults.has(fault)
    }

    fn client_acts(&mut self, client: usize) -> CheckResult {
        match self.quiet {
            true => Ok(()),
            false => self.ask(client),
        }
    }

    fn ask(&mut self, client: usize) -> CheckResult {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let request = requests::draw(&self.plan, client, &mut self.random);
        let open = request.count;
        self.tickets.insert(ticket, OpenRequest { client, open });
        let user = format!("uid:{}", client % self.plan.users);
        let entropy = self.random.next();
        self.feed(Event::RequestArrived {
            ticket,
            request,
            user,
            entropy,
        })
    }

    /// Lets clients leave, operators act, kills and lost devices happen.
    fn disturb(&mut self) -> CheckResult {
        if self.quiet {
            return Ok(());
        }
        let next = self.random.from(10_000, 600_000);
        self.later(next, WorldEvent::Disturbance);
        if self.has(FaultKind::Massacre) && self.counts.events % 2000 < 600 {
            self.kill_from_outside(3)?;
        }
        match self.random.from(0, 9) {
            0 if self.has(FaultKind::ClientGone) => self.client_leaves(),
            1 | 2 if self.has(FaultKind::Cancels) => self.somebody_cancels(),
            3 if self.has(FaultKind::KilledFromOutside) || self.has(FaultKind::KernelOom) => {
                self.kill_from_outside(1)
            }
            4 if self.has(FaultKind::Repeats) => match self.scripted.echo(&mut self.random) {
                Some(event) => self.feed(event),
                None => Ok(()),
            },
            5 if self.has(FaultKind::Operator) && self.random.permille(300) => self.operator(),
            8 if self.has(FaultKind::Drains) && self.counts.events * 10 > self.plan.events * 7 => {
                self.winds_down()
            }
            6 if self.has(FaultKind::Registry) && self.random.permille(200) => {
                let events = self.files.change(&mut self.random);
                self.feed_all(events)
            }
            9 if self.has(FaultKind::Looks) && self.random.permille(300) => {
                let news = self.files.look(&mut self.random);
                self.hear_of_files(news)
            }
            9 if self.has(FaultKind::Fetches) && self.random.permille(400) => {
                let events = self.files.disturb(&mut self.random);
                self.feed_all(events)
            }
            7 if self.random.permille(60) => self.stall(),
            7 if self.has(FaultKind::Unmeasured) && self.random.permille(400) => self.lose_sight(),
            7 => self.measure(),
            _ => Ok(()),
        }
    }

    /// The driver of a device does not answer for a while, or says that the device is gone.
    fn lose_sight(&mut self) -> CheckResult {
        let device = operators::device(self.random.below(self.plan.devices));
        let later = self.random.from(50_000, 8_000_000);
        self.later(later, WorldEvent::Measured(device));
        let gone = self.random.permille(300);
        self.feed(match gone {
            true => Event::DeviceLost {
                device,
                reason: "the driver does not answer".into(),
            },
            false => Event::MeasurementAged { device },
        })
    }

    /// Ends workers from outside, or as the kernel does.
    fn kill_from_outside(&mut self, count: u64) -> CheckResult {
        for _ in 0..count {
            for later in self.scripted.kill_one(&mut self.random) {
                self.later(later.in_us, WorldEvent::ScriptedWorker(later));
            }
        }
        Ok(())
    }

    /// The driver cannot run for a while. What is due is done then, before anything that happened meanwhile is
    /// heard.
    fn stall(&mut self) -> CheckResult {
        let lasted = Duration::from_micros(self.random.from(500_000, 20_000_000));
        self.now = self.now + lasted;
        self.feed(Event::LoopStalled { lasted })?;
        self.deadline(self.now.0)
    }

    fn client_leaves(&mut self) -> CheckResult {
        let nth = self.random.below(self.tickets.len());
        let Some((&ticket, asking)) = self.tickets.iter().nth(nth) else {
            return Ok(());
        };
        let client = asking.client;
        self.tickets.remove(&ticket);
        self.later(500_000, WorldEvent::Client(client));
        self.feed(Event::ClientGone { ticket })
    }

    fn somebody_cancels(&mut self) -> CheckResult {
        let nth = self.random.below(200);
        let job = match self.random.permille(900) {
            true => {
                let observed = self.checks.observed();
                let reserved = observed.requests.values();
                let reserved = reserved.flat_map(|waiting| waiting.jobs.keys());
                let jobs: Vec<&JobId> = observed.jobs.keys().chain(reserved).collect();
                jobs.get(nth % jobs.len().max(1)).copied().copied()
            }
            false => Some(JobId(self.random.from(0, 100_000))),
        };
        let by = "uid:0".to_string();
        match job {
            Some(job) => self.feed(Event::RequestCancelled { job, by }),
            None => Ok(()),
        }
    }

    /// Ends the pool while there is work left.
    fn winds_down(&mut self) -> CheckResult {
        self.last_ticket += 1;
        let drain = match self.random.from(0, 3) {
            0 => Drain::Stay,
            1 => Drain::ExitNow,
            _ => Drain::Exit,
        };
        self.feed(Event::DrainRequested {
            ticket: Some(Ticket(self.last_ticket)),
            drain,
        })?;
        // Half of those who only wanted it quiet want it to go on.
        if drain != Drain::Stay || self.random.from(0, 2) == 0 {
            return Ok(());
        }
        self.last_ticket += 1;
        self.feed(Event::DrainRequested {
            ticket: Some(Ticket(self.last_ticket)),
            drain: Drain::Undo,
        })
    }

    fn operator(&mut self) -> CheckResult {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let known = self
            .quarantined
            .iter()
            .nth(self.random.below(self.quarantined.len()));
        let (plan, settings) = (&self.plan, &self.settings);
        let event = operators::command(plan, settings, ticket, known.cloned(), &mut self.random);
        self.feed(event)
    }

    fn hear_of_files(&mut self, news: FilesNews) -> CheckResult {
        if let Some((in_us, step)) = news.next {
            self.later(in_us, WorldEvent::Files(step));
        }
        self.feed_all(news.events)
    }

    fn feed_all(&mut self, events: Vec<Event>) -> CheckResult {
        events.into_iter().try_for_each(|event| self.feed(event))
    }

    fn measure(&mut self) -> CheckResult {
        match self.random.permille(300) {
            true => match self.scripted.weigh_one(&mut self.random) {
                Some(event) => self.feed(event),
                None => Ok(()),
            },
            false => {
                let event = operators::measured(&self.plan, &mut self.random);
                self.feed(event)
            }
        }
    }

    /// The world is mended: registry, devices and stops.
    fn quieten(&mut self) -> CheckResult {
        let mended = self.files.mend();
        self.feed(mended)?;
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
    fn feed(&mut self, event: Event) -> CheckResult {
        let mut actions = std::mem::take(&mut self.actions);
        actions.clear();
        self.pool.handle(self.now, event.clone(), &mut actions);
        self.counts.events += 1;
        self.counts.changes += u64::from(trace::changes(&event, &actions));
        if let Some(lines) = &mut self.lines {
            lines.push(trace::line(self.now, self.counts.events, &event, &actions));
        }
        let checked = self.checks.check(self.now, &event, &actions);
        for action in &actions {
            self.carry_out(action);
        }
        self.actions = actions;
        checked?;
        if !self.counts.events.is_multiple_of(COMPARE_EVERY) {
            return Ok(());
        }
        let turn = self.counts.events / COMPARE_EVERY;
        self.checks.compare(self.now, &self.pool, turn)
    }

    fn carry_out(&mut self, action: &Action) {
        self.scripted.now = self.now;
        let random = &mut self.random;
        let next = match action {
            Action::Start(start) => {
                let confirms = self.confirms.contains(&start.device);
                self.scripted.start(start, confirms, random)
            }
            Action::Run(run) => self.scripted.run(run, random),
            Action::Cancel { worker, .. } => self.scripted.cancel(*worker, random),
            Action::AskToLeave { worker } => self.scripted.asked(*worker, random),
            Action::Terminate { worker } => self.scripted.terminated(*worker, random),
            Action::Kill { worker } => self.scripted.killed(*worker, random),
            Action::Accept(accepted) => {
                for &job in &accepted.jobs {
                    self.owners.insert(job, accepted.ticket);
                }
                Vec::new()
            }
            Action::Refuse { ticket, .. } => {
                if let Some(asking) = self.tickets.remove(ticket) {
                    let pause = random.from(500_000, 10_000_000);
                    self.later(pause, WorldEvent::Client(asking.client));
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
            Action::Measure { worker } => self.scripted.measured(*worker, random),
            Action::Fetch { model } => {
                let (in_us, step) = self.files.fetch(model, random);
                self.later(in_us, WorldEvent::Files(step));
                Vec::new()
            }
            Action::StopFetch { model } => {
                self.files.stop_fetch(model, random);
                Vec::new()
            }
            Action::AwaitFiles { .. }
            | Action::Acknowledge { .. }
            | Action::Report { .. }
            | Action::Tell(_)
            | Action::Remember(_)
            | Action::AskTruce { .. }
            | Action::EndTruce { .. }
            | Action::Exit => Vec::new(),
        };
        for later in next {
            self.later(later.in_us, WorldEvent::ScriptedWorker(later));
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
            let pause = self.random.from(1, 1_000_000);
            self.later(pause, WorldEvent::Client(client));
        }
    }
}
