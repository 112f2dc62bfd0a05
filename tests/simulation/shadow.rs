//! What must hold, kept apart from the pool's own sums: a second set of books, written from the
//! events that went in and the actions that came out.

use std::collections::{BTreeMap, BTreeSet};

use ipc_protocol::failure::FailureKind;
use ipc_protocol::ids::{Device, Generation, JobId};
use ipc_protocol::units::{Mebibytes, PictureSize};
use pool::{
    Action, DeviceLimit, Event, Exit, KilledBy, ModelSpec, Moment, Notice, Outcome, Parameters,
    Pool, Registry, Run, Settings, StartReason, StopReason, Ticket,
};

/// Says what is wrong.
pub(crate) type Verdict = Result<(), String>;

/// Most actions one event may cause, besides those per job and worker.
const ACTIONS_MAX: usize = 400;

/// The second set of books.
pub(crate) struct Shadow {
    settings: Settings,
    specs: BTreeMap<String, ModelSpec>,
    offered: BTreeSet<String>,
    pinned: BTreeMap<String, bool>,
    kept: BTreeMap<String, u32>,
    limits: BTreeMap<Device, Mebibytes>,
    confirms: BTreeSet<Device>,
    /// Held by processes that are not reaped, or reaped and not confirmed.
    held: BTreeMap<(Generation, Device), Mebibytes>,
    sums: BTreeMap<Device, Mebibytes>,
    workers: BTreeMap<Generation, Seen>,
    reaped: BTreeSet<Generation>,
    jobs: BTreeMap<JobId, Accepted>,
    last_job: u64,
    last_generation: u64,
    models: BTreeMap<String, Account>,
    requests: BTreeMap<Ticket, Asked>,
    draining: bool,
    exited: bool,
    forgiving: bool,
    crowded_out: bool,
    for_its_own: bool,
    first_failure: Option<String>,
    pub(crate) answers: u64,
    pub(crate) pictures: u64,
}

/// A request that is being handled.
#[derive(Debug, Clone)]
struct Asked {
    count: u32,
    seed: Option<u64>,
    prompt: String,
    priority: ipc_protocol::request::Priority,
    user: String,
}

/// A worker as seen from outside.
#[derive(Debug, Clone, PartialEq)]
enum Life {
    Coming,
    Idle,
    Busy(JobId),
    /// Cancelled, not yet acknowledged.
    Unwinding(JobId),
    /// Told to leave; its job, if it has one that still wants an answer.
    Leaving(Option<JobId>),
}

#[derive(Debug, Clone)]
struct Seen {
    model: String,
    device: Device,
    life: Life,
    fault: bool,
}

#[derive(Debug, Clone)]
struct Accepted {
    model: String,
    seed: u64,
    prompt: String,
    size: PictureSize,
    steps: u32,
    user: String,
    priority: ipc_protocol::request::Priority,
    /// First of its user for this model: others may go first once each.
    newcomer: bool,
    went_first: BTreeMap<String, u32>,
    since: Moment,
    on: Option<Generation>,
    attempts: u32,
    deaths: u32,
    salvaged: u32,
    ran_with: Option<Parameters>,
}

#[derive(Debug, Clone, Default)]
struct Account {
    no_start_before: Moment,
    no_run_before: Moment,
    last_backoff: std::time::Duration,
    came_up: bool,
    users: BTreeSet<String>,
}

impl Shadow {
    pub(crate) fn new(settings: &Settings, registry: &Registry, limits: &[DeviceLimit]) -> Self {
        let mut shadow = Self {
            settings: settings.clone(),
            specs: BTreeMap::new(),
            offered: BTreeSet::new(),
            pinned: BTreeMap::new(),
            kept: BTreeMap::new(),
            limits: limits.iter().map(|l| (l.device, l.limit)).collect(),
            confirms: limits
                .iter()
                .filter(|l| l.confirms)
                .map(|l| l.device)
                .collect(),
            held: BTreeMap::new(),
            sums: BTreeMap::new(),
            workers: BTreeMap::new(),
            reaped: BTreeSet::new(),
            jobs: BTreeMap::new(),
            last_job: 0,
            last_generation: 0,
            models: BTreeMap::new(),
            requests: BTreeMap::new(),
            draining: false,
            exited: false,
            forgiving: false,
            crowded_out: false,
            for_its_own: false,
            first_failure: None,
            answers: 0,
            pictures: 0,
        };
        shadow.learn(registry);
        shadow
    }

    fn learn(&mut self, registry: &Registry) {
        self.offered = registry.iter().map(|spec| spec.key.to_string()).collect();
        for spec in registry.iter() {
            let key = spec.key.to_string();
            // What an operator said stays until the registry says something else.
            let changed = self
                .specs
                .get(&key)
                .is_some_and(|old| old.pinned != spec.pinned);
            let pinned = self.pinned.entry(key.clone()).or_insert(spec.pinned);
            if changed {
                *pinned = spec.pinned;
            }
            self.specs.insert(key, spec.clone());
        }
    }

    pub(crate) fn live_jobs(&self) -> usize {
        self.jobs.len()
    }

    pub(crate) fn live_workers(&self) -> usize {
        self.workers.len()
    }

    pub(crate) fn has_exited(&self) -> bool {
        self.exited
    }

    pub(crate) fn job_of(&self, nth: usize) -> Option<JobId> {
        self.jobs.keys().nth(nth % self.jobs.len().max(1)).copied()
    }

    /// What the event alone changes, before the pool sees it.
    pub(crate) fn before(&mut self, event: &Event) {
        match event {
            Event::RequestArrived {
                ticket,
                request,
                user,
                ..
            } => {
                let asked = Asked {
                    count: request.count,
                    seed: request.seed,
                    prompt: request.prompt.clone(),
                    priority: request.priority,
                    user: user.clone(),
                };
                self.requests.insert(*ticket, asked);
            }
            Event::WorkerReady { worker, .. } => {
                if let Some(seen) = self.workers.get_mut(worker)
                    && seen.life == Life::Coming
                {
                    seen.life = Life::Idle;
                    self.models.entry(seen.model.clone()).or_default().came_up = true;
                }
            }
            Event::JobFinished { worker, job, .. } | Event::JobFailed { worker, job, .. } => {
                self.worker_is_free(*worker, *job);
            }
            Event::StepFinished { .. } => {}
            Event::WorkerExited {
                worker,
                exit,
                salvaged_step,
            } => self.worker_gone(*worker, Some(*exit), *salvaged_step),
            Event::WorkerStartFailed { worker, .. } => self.worker_gone(*worker, None, None),
            Event::MemoryReturned { worker } => self.release(*worker, |_| true),
            Event::StartRequested { .. } | Event::RestartRequested { .. } => self.forgiving = true,
            Event::ModelsChanged { registry } => {
                self.forgiving = true;
                self.learn(registry);
            }
            Event::PinChanged { model, pinned, .. } if self.offered.contains(model) => {
                self.pinned.insert(model.clone(), *pinned);
            }
            Event::Scaled { model, workers, .. } => {
                self.kept.insert(model.clone(), *workers);
            }
            Event::DrainRequested { .. } => self.draining = true,
            _ => {}
        }
        if self.forgiving {
            for account in self.models.values_mut() {
                account.no_start_before = Moment::START;
                account.no_run_before = Moment::START;
            }
            self.forgiving = false;
        }
    }

    fn worker_is_free(&mut self, worker: Generation, job: JobId) {
        let Some(seen) = self.workers.get_mut(&worker) else {
            return;
        };
        match seen.life.clone() {
            Life::Busy(on) | Life::Unwinding(on) if on == job => {
                seen.life = Life::Idle;
            }
            Life::Leaving(Some(on)) if on == job => seen.life = Life::Leaving(None),
            Life::Coming | Life::Idle | Life::Busy(_) | Life::Unwinding(_) | Life::Leaving(_) => {}
        }
        if let Some(job) = self.jobs.get_mut(&job)
            && job.on == Some(worker)
        {
            job.on = None;
        }
    }

    fn worker_gone(&mut self, worker: Generation, exit: Option<Exit>, salvaged: Option<u32>) {
        let Some(seen) = self.workers.remove(&worker) else {
            return;
        };
        self.reaped.insert(worker);
        let confirms = self.confirms.clone();
        let spawned = exit.is_some();
        self.release(worker, |device| !spawned || !confirms.contains(&device));
        let at_hand = match seen.life {
            Life::Busy(job) | Life::Leaving(Some(job)) => Some(job),
            Life::Coming | Life::Idle | Life::Unwinding(_) | Life::Leaving(None) => None,
        };
        let wanted = matches!(seen.life, Life::Leaving(_)) && !seen.fault;
        if let Some(job) = at_hand.and_then(|job| self.jobs.get_mut(&job)) {
            job.on = None;
            job.salvaged = job.salvaged.max(salvaged.unwrap_or(0));
            job.deaths += u32::from(!wanted);
        }
    }

    fn release(&mut self, worker: Generation, on: impl Fn(Device) -> bool) {
        let range = (worker, Device::Host)..=(worker, Device::Cuda(u32::MAX));
        let parts: Vec<Device> = self
            .held
            .range(range)
            .map(|(&(_, device), _)| device)
            .collect();
        for device in parts.into_iter().filter(|&device| on(device)) {
            if let Some(part) = self.held.remove(&(worker, device)) {
                let sum = self.sums.entry(device).or_default();
                *sum = *sum - part;
            }
        }
    }

    /// What came of it.
    pub(crate) fn after(&mut self, now: Moment, event: &Event, actions: &[Action]) -> Verdict {
        self.check_stale(event, actions)?;
        let bound = ACTIONS_MAX + 8 * self.jobs.len();
        if actions.len() > bound {
            return Err(format!("{} actions for one event", actions.len()));
        }
        for action in actions {
            self.action(now, action)?;
        }
        self.requests.clear();
        self.check_memory()
    }

    fn check_stale(&self, event: &Event, actions: &[Action]) -> Verdict {
        let Some(from) = event.said_by() else {
            return Ok(());
        };
        if self.reaped.contains(&from)
            && actions
                .iter()
                .any(|action| !matches!(action, Action::Start(_)))
        {
            return Err(format!(
                "a message of reaped generation {from} caused {actions:?}"
            ));
        }
        Ok(())
    }

    fn action(&mut self, now: Moment, action: &Action) -> Verdict {
        if self.exited {
            return Err(format!("after Exit came {action:?}"));
        }
        match action {
            Action::Accept(accepted) => self.accept(now, accepted),
            Action::Refuse { ticket, .. } => match self.requests.remove(ticket) {
                Some(_) => Ok(()),
                None => Err(format!("refused {ticket:?}, which did not ask")),
            },
            Action::Start(start) => self.start(now, start),
            Action::Run(run) => self.run(now, run),
            Action::Cancel { worker, job } => self.cancel(*worker, *job),
            Action::AskToLeave { worker }
            | Action::Terminate { worker }
            | Action::Kill { worker } => self.leave(*worker),
            Action::Answer { job, outcome } => self.answer(now, *job, outcome),
            Action::Tell(notice) => self.notice(now, notice),
            Action::Exit => {
                self.exited = true;
                match (self.jobs.is_empty(), self.workers.is_empty(), self.draining) {
                    (true, true, true) => Ok(()),
                    _ => Err(format!(
                        "Exit with {} jobs and {} workers left",
                        self.jobs.len(),
                        self.workers.len()
                    )),
                }
            }
            Action::Report { job, .. } => match self.jobs.contains_key(job) {
                true => Ok(()),
                false => Err(format!("a report about job {job}, which is answered")),
            },
            Action::Acknowledge { .. } => Ok(()),
        }
    }

    fn accept(&mut self, now: Moment, accepted: &pool::Accepted) -> Verdict {
        let Some(asked) = self.requests.remove(&accepted.ticket) else {
            return Err(format!("accepted {:?}, which did not ask", accepted.ticket));
        };
        if self.draining {
            return Err("accepted while draining".into());
        }
        let model = accepted.model.to_string();
        if accepted.jobs.len() != asked.count as usize {
            return Err(format!(
                "{} jobs for {} images",
                accepted.jobs.len(),
                asked.count
            ));
        }
        if asked.seed.is_some_and(|seed| seed != accepted.seed) {
            return Err("accepted with another seed".into());
        }
        let account = self.models.entry(model.clone()).or_default();
        // With several devices a job may be for one of them, and wait for a worker there.
        let newcomer = account.users.insert(asked.user.clone()) && self.limits.len() == 1;
        for (nth, &job) in (0_u64..).zip(&accepted.jobs) {
            if job.0 != self.last_job + 1 {
                return Err(format!("job {job} after job {}", self.last_job));
            }
            self.last_job = job.0;
            let entry = Accepted {
                model: model.clone(),
                seed: accepted.seed.wrapping_add(nth),
                prompt: asked.prompt.clone(),
                size: accepted.size,
                steps: accepted.steps,
                user: asked.user.clone(),
                priority: asked.priority,
                newcomer: newcomer && nth == 0,
                went_first: BTreeMap::new(),
                since: now,
                on: None,
                attempts: 0,
                deaths: 0,
                salvaged: 0,
                ran_with: None,
            };
            self.jobs.insert(job, entry);
        }
        Ok(())
    }

    /// How many wait that never ran is bounded; checked once what could run at once does.
    pub(crate) fn check_queues(&self) -> Verdict {
        let mut waiting: BTreeMap<&str, usize> = BTreeMap::new();
        for job in self.jobs.values() {
            if job.on.is_none() && job.attempts == 0 {
                *waiting.entry(&job.model).or_default() += 1;
            }
        }
        let most = self.settings.queue_per_model;
        for (model, count) in &waiting {
            if *count > most {
                return Err(format!("{count} wait for {model}, {most} may"));
            }
        }
        let all: usize = waiting.values().sum();
        let most = self.settings.queue_total;
        match all > most {
            true => Err(format!("{all} wait in all, {most} may")),
            false => Ok(()),
        }
    }

    fn start(&mut self, now: Moment, start: &pool::Start) -> Verdict {
        let model = start.model.to_string();
        if start.worker.0 <= self.last_generation {
            return Err(format!("generation {} is not new", start.worker));
        }
        self.last_generation = start.worker.0;
        self.check_start(now, &model, start)?;
        for (&device, &part) in &start.reserved {
            self.held.insert((start.worker, device), part);
            *self.sums.entry(device).or_default() += part;
        }
        let seen = Seen {
            model,
            device: start.device,
            life: Life::Coming,
            fault: false,
        };
        self.workers.insert(start.worker, seen);
        Ok(())
    }

    fn check_start(&mut self, now: Moment, model: &str, start: &pool::Start) -> Verdict {
        let mates: Vec<&Seen> = self.workers.values().filter(|w| w.model == model).collect();
        let most = self.most(model);
        if mates.len() >= most {
            return Err(format!(
                "worker {} of {model}, {most} may be",
                mates.len() + 1
            ));
        }
        if start.name.slot as usize >= most + 8 {
            return Err(format!("slot {} is not the lowest", start.name.slot));
        }
        let waits = self
            .jobs
            .values()
            .filter(|job| job.model == model && job.on.is_none());
        let oldest = waits.map(|job| job.since).min();
        match start.reason {
            StartReason::Growth => {
                let all_busy = mates.iter().all(|w| {
                    matches!(
                        w.life,
                        Life::Busy(_) | Life::Unwinding(_) | Life::Leaving(_)
                    )
                });
                let due = oldest.is_some_and(|since| since + self.settings.grow_after <= now);
                if !all_busy || !due {
                    return Err(format!(
                        "{model} grew: all busy {all_busy}, wait over {due}"
                    ));
                }
            }
            StartReason::ColdStart | StartReason::Replacement | StartReason::Wish => {
                if oldest.is_none() {
                    return Err(format!("{:?} of {model} for nobody", start.reason));
                }
            }
            StartReason::Floor => {
                let live = mates
                    .iter()
                    .filter(|w| !matches!(w.life, Life::Leaving(_)))
                    .count();
                if live >= self.most(model) {
                    return Err(format!("a floor of {model} above {live}"));
                }
            }
        }
        let cold = self.settings.cold_start_workers as usize;
        let account = self.models.entry(model.to_owned()).or_default();
        if now < account.no_start_before {
            return Err(format!("{model} started within its back-off"));
        }
        let live = self
            .workers
            .values()
            .filter(|w| w.model == model && !matches!(w.life, Life::Leaving(_)));
        let live: Vec<&Seen> = live.collect();
        if start.reason == StartReason::ColdStart && live.len() >= cold.max(1) {
            return Err(format!("a cold start of {} of {model}", live.len() + 1));
        }
        Ok(())
    }

    fn most(&self, model: &str) -> usize {
        let own = self.specs.get(model).and_then(|spec| spec.max_workers);
        own.unwrap_or(self.settings.max_workers_per_model).max(1) as usize
    }

    fn run(&mut self, now: Moment, run: &Run) -> Verdict {
        let Some(seen) = self.workers.get_mut(&run.worker) else {
            return Err(format!(
                "job {} for worker {}, which is gone",
                run.job, run.worker
            ));
        };
        if seen.life != Life::Idle {
            return Err(format!(
                "job {} for worker {}, which is {:?}",
                run.job, run.worker, seen.life
            ));
        }
        seen.life = Life::Busy(run.job);
        let model = seen.model.clone();
        let Some(job) = self.jobs.get_mut(&run.job) else {
            return Err(format!("job {} runs and is answered", run.job));
        };
        if job.model != model {
            return Err(format!(
                "job {} of {} on a worker of {model}",
                run.job, job.model
            ));
        }
        if let Some(on) = job.on {
            return Err(format!("job {} runs on {on} already", run.job));
        }
        job.on = Some(run.worker);
        job.attempts += 1;
        if run.attempt != job.attempts {
            return Err(format!(
                "attempt {} is the {}. one",
                run.attempt, job.attempts
            ));
        }
        if job.deaths >= self.settings.max_attempts {
            return Err(format!(
                "job {} runs again after {} deaths",
                run.job, job.deaths
            ));
        }
        if run.from_step != job.salvaged {
            return Err(format!(
                "job {} goes on from step {}, {} are done",
                run.job, run.from_step, job.salvaged
            ));
        }
        let p = &run.parameters;
        let same = p.seed == job.seed
            && *p.prompt == *job.prompt
            && p.size == job.size
            && p.steps == job.steps
            && job.ran_with.as_ref().is_none_or(|before| before == p);
        if !same {
            return Err(format!("job {} runs with other parameters", run.job));
        }
        job.ran_with = Some(p.clone());
        let (user, priority, first) = (job.user.clone(), job.priority, job.attempts == 1);
        if self
            .models
            .get(&model)
            .is_some_and(|account| now < account.no_run_before)
        {
            return Err(format!("job {} runs while {model} is broken", run.job));
        }
        if first && self.specs.len() == 1 && !self.settings.fifo {
            self.check_shares(run.job, &user, priority)?;
        }
        Ok(())
    }

    /// Nobody's first job of a model waits for two jobs of one other user.
    fn check_shares(
        &mut self,
        started: JobId,
        user: &str,
        priority: ipc_protocol::request::Priority,
    ) -> Verdict {
        for (id, job) in &mut self.jobs {
            let behind = job.newcomer && job.attempts == 0 && *id != started;
            if !behind || job.user == user || job.priority != priority {
                continue;
            }
            let count = job.went_first.entry(user.to_owned()).or_default();
            *count += 1;
            if *count > 1 {
                return Err(format!(
                    "{count} jobs of {user} went before newcomer's job {id}"
                ));
            }
        }
        Ok(())
    }

    fn cancel(&mut self, worker: Generation, job: JobId) -> Verdict {
        match self.workers.get_mut(&worker) {
            Some(seen) if seen.life == Life::Busy(job) => {
                seen.life = Life::Unwinding(job);
                Ok(())
            }
            Some(seen) => Err(format!(
                "cancel of job {job} at worker {worker}: {:?}",
                seen.life
            )),
            None => Err(format!(
                "cancel of job {job} at worker {worker}, which is gone"
            )),
        }
    }

    fn leave(&mut self, worker: Generation) -> Verdict {
        let Some(seen) = self.workers.get_mut(&worker) else {
            return Err(format!("worker {worker} is told to leave and is gone"));
        };
        seen.life = match seen.life.clone() {
            Life::Busy(job) => Life::Leaving(Some(job)),
            Life::Coming | Life::Idle | Life::Unwinding(_) => Life::Leaving(None),
            leaving @ Life::Leaving(_) => leaving,
        };
        Ok(())
    }

    fn answer(&mut self, now: Moment, job: JobId, outcome: &Outcome) -> Verdict {
        let Some(done) = self.jobs.remove(&job) else {
            return Err(format!(
                "job {job} is answered twice, or was never accepted"
            ));
        };
        self.answers += 1;
        for seen in self.workers.values_mut() {
            if seen.life == Life::Leaving(Some(job)) {
                seen.life = Life::Leaving(None);
            }
        }
        match outcome {
            Outcome::Picture(facts) => {
                self.pictures += 1;
                let account = self.models.entry(done.model.clone()).or_default();
                account.last_backoff = std::time::Duration::ZERO;
                account.no_start_before = Moment::START;
                let right = facts.seed == done.seed
                    && facts.size == done.size
                    && facts.steps == done.steps
                    && facts.attempts == done.attempts
                    && facts.worker.model.as_str() == done.model;
                if !right || done.attempts == 0 {
                    return Err(format!("job {job} got another picture: {facts:?}"));
                }
                let waited = now.since(done.since);
                match facts.queue + facts.load <= waited {
                    true => Ok(()),
                    false => Err(format!("job {job} waited longer than it exists")),
                }
            }
            Outcome::Failure(failure) => {
                let least = self.settings.min_workers > 0;
                let stay = |spec: &ModelSpec| spec.pinned || spec.min_workers.is_some() || least;
                let memory = [FailureKind::MemoryExhausted, FailureKind::NeverFits];
                self.crowded_out |= memory.contains(&failure.kind) && self.specs.values().any(stay);
                self.check_failure(job, &done, failure.kind)
            }
        }
    }

    fn check_failure(&self, job: JobId, done: &Accepted, kind: FailureKind) -> Verdict {
        let right = match kind {
            FailureKind::WorkerLost => done.deaths >= 1,
            FailureKind::Draining => self.draining,
            FailureKind::QueueFull | FailureKind::Internal | FailureKind::NotPermitted => false,
            _ => true,
        };
        match right {
            true => Ok(()),
            false => Err(format!(
                "job {job} ended with {kind:?} after {} deaths",
                done.deaths
            )),
        }
    }

    fn notice(&mut self, now: Moment, notice: &Notice) -> Verdict {
        match notice {
            Notice::Stopping { worker, why, .. } => self.stopping(*worker, *why),
            Notice::Died { name, backoff, .. } => {
                let account = self.models.entry(name.model.to_string()).or_default();
                if *backoff + std::time::Duration::from_secs(60) < account.last_backoff {
                    return Err(format!("{name} backs off for less than before"));
                }
                account.last_backoff = *backoff;
                account.no_start_before = account.no_start_before.max(now + *backoff);
                Ok(())
            }
            Notice::BreakerOpened {
                model, for_long, ..
            } => {
                let account = self.models.entry(model.to_string()).or_default();
                account.no_run_before = now + *for_long;
                account.no_start_before = account.no_start_before.max(now + *for_long);
                Ok(())
            }
            Notice::LoadCooling {
                model, for_long, ..
            } => {
                let account = self.models.entry(model.to_string()).or_default();
                account.no_start_before = account.no_start_before.max(now + *for_long);
                Ok(())
            }
            Notice::Evicted {
                name, for_model, ..
            } => {
                self.for_its_own = name.model == *for_model;
                Ok(())
            }
            Notice::Left {
                name,
                why: StopReason::Operator,
                ..
            } => {
                // It may be the first half of a restart, which forgives.
                let account = self.models.entry(name.model.to_string()).or_default();
                account.no_start_before = Moment::START;
                account.no_run_before = Moment::START;
                Ok(())
            }
            Notice::Ready { name, .. } => {
                // A load that worked ends the cool-down.
                let account = self.models.entry(name.model.to_string()).or_default();
                account.no_start_before = Moment::START;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The reason comes right after the action, so the worker is leaving already; what it was
    /// doing is what counts.
    fn stopping(&mut self, worker: Generation, why: StopReason) -> Verdict {
        let Some(seen) = self.workers.get_mut(&worker) else {
            return Err(format!("worker {worker} stops and is gone"));
        };
        seen.fault = why.is_fault();
        let with_job = matches!(seen.life, Life::Leaving(Some(_)));
        let model = seen.model.clone();
        match why {
            StopReason::Evicted
            | StopReason::Idle
            | StopReason::Abandoned
            | StopReason::Outdated
                if with_job =>
            {
                Err(format!(
                    "worker {worker} has a job and is told to leave: {}",
                    why.word()
                ))
            }
            StopReason::Evicted | StopReason::Idle => {
                let stay = self
                    .workers
                    .values()
                    .filter(|w| w.model == model && !matches!(w.life, Life::Leaving(_)))
                    .count();
                let spec = self.specs.get(&model);
                let least = spec
                    .and_then(|spec| spec.min_workers)
                    .unwrap_or(self.settings.min_workers);
                let pinned = self.pinned.get(&model).copied().unwrap_or(false);
                let floor = match self.offered.contains(&model) {
                    true => least.max(u32::from(pinned)) as usize,
                    false => 0,
                };
                // It may leave for one of its own model on the device a job needs.
                match std::mem::take(&mut self.for_its_own) || stay >= floor.min(self.most(&model))
                {
                    true => Ok(()),
                    false => Err(format!("{model} keeps {stay} workers, {floor} should stay")),
                }
            }
            _ => Ok(()),
        }
    }

    /// Promised to processes that hold memory is never more than may be.
    fn check_memory(&self) -> Verdict {
        for (device, &limit) in &self.limits {
            let mut sum = self.sums.get(device).copied().unwrap_or_default();
            sum += self.extra_on(*device);
            if sum > limit {
                return Err(format!(
                    "{} MB promised on {device}, limit {}",
                    sum.0, limit.0
                ));
            }
        }
        Ok(())
    }

    /// Room for the pictures being drawn beyond the usual size.
    fn extra_on(&self, device: Device) -> Mebibytes {
        let extra = |seen: &Seen| {
            let (Life::Busy(job) | Life::Unwinding(job) | Life::Leaving(Some(job))) = seen.life
            else {
                return Mebibytes::ZERO;
            };
            let spec = self.specs.get(&seen.model);
            let (Some(job), Some(spec)) = (self.jobs.get(&job), spec) else {
                return Mebibytes::ZERO;
            };
            let activation = &spec.need.activation;
            activation
                .at(job.size)
                .saturating_sub(activation.at(spec.default_size))
        };
        let here = self.workers.values().filter(|seen| seen.device == device);
        here.map(extra).sum()
    }

    /// Everything again from the start, against what the pool says of itself.
    pub(crate) fn compare(&self, now: Moment, pool: &Pool) -> Verdict {
        let snapshot = pool.snapshot(now);
        for book in &snapshot.memory {
            let of = |worker: &ipc_protocol::status::WorkerStatus| {
                worker.reserved_mb.get(&book.device).copied().unwrap_or(0)
            };
            let sum: u64 = snapshot.workers.iter().map(of).sum();
            if sum != book.reserved_mb {
                return Err(format!(
                    "{}: {} booked, {sum} held",
                    book.device, book.reserved_mb
                ));
            }
            if book.reserved_mb > book.limit_mb {
                return Err(format!("{}: more booked than may be", book.device));
            }
        }
        let names: BTreeSet<&str> = snapshot.workers.iter().map(|w| w.name.as_str()).collect();
        if names.len() != snapshot.workers.len() {
            return Err("two workers of one name".into());
        }
        let theirs: BTreeSet<Generation> = snapshot.workers.iter().map(|w| w.generation).collect();
        let ours: BTreeSet<Generation> = self.workers.keys().copied().collect();
        if theirs != ours {
            return Err(format!("workers {theirs:?}, should be {ours:?}"));
        }
        let theirs: BTreeSet<JobId> = snapshot.queue.iter().map(|entry| entry.job).collect();
        let ours: BTreeSet<JobId> = self.jobs.keys().copied().collect();
        if theirs != ours {
            return Err(format!("jobs {theirs:?}, should be {ours:?}"));
        }
        for entry in &snapshot.queue {
            let running = self
                .jobs
                .get(&entry.job)
                .is_some_and(|job| job.on.is_some());
            if running != (entry.state == "running") {
                return Err(format!(
                    "job {} is {}, runs: {running}",
                    entry.job, entry.state
                ));
            }
        }
        let most = u64::from(self.settings.max_overtakes);
        if snapshot.counters.overtakes_max > most && !self.settings.fifo {
            return Err(format!(
                "{} overtakes, {most} may be",
                snapshot.counters.overtakes_max
            ));
        }
        if snapshot.counters.spawns != self.last_generation {
            return Err("the counter of starts is wrong".into());
        }
        let total: u64 = snapshot.memory.iter().map(|book| book.reserved_mb).sum();
        match total == pool.total_memory_mb() {
            true => Ok(()),
            false => Err("the total is not the sum".into()),
        }
    }

    /// Nothing is left but what is to stay.
    pub(crate) fn check_rest(&self, pool: &Pool) -> Verdict {
        if !self.jobs.is_empty() {
            return Err(format!(
                "{} jobs never got an answer: {:?}",
                self.jobs.len(),
                self.jobs.keys().next()
            ));
        }
        if self.exited && (pool.total_memory_mb() != 0 || !self.workers.is_empty()) {
            return Err(format!("{} MB promised to nobody", pool.total_memory_mb()));
        }
        Ok(())
    }

    /// In a world without faults every accepted job ends in a picture, unless models that stay
    /// took the room it needed after it was accepted.
    pub(crate) fn check_no_failures(&self) -> Verdict {
        match self.crowded_out || self.answers == self.pictures {
            true => Ok(()),
            false => Err(format!(
                "{} of {} jobs failed in a world without faults: {:?}",
                self.answers - self.pictures,
                self.answers,
                self.first_failure
            )),
        }
    }
}

/// A signal of the given number that nobody of us sent.
pub(crate) fn crash(signal: i32) -> Exit {
    Exit::Signal {
        signal,
        by: KilledBy::Other,
    }
}
