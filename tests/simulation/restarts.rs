//! Daemons that die and come back with a journal: no detached job is lost or answered twice.
//!
//! A world is several lives of a pool, one after the other. The journal holds what the driver writes: accepted jobs that are
//! detached, what they went through, the quarantine, the measured needs and the last id. A life ends anywhere between two events; the
//! next pool is given the journal. The oracle keeps books over all lives.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use ipc_protocol::failure::FailureKind;
use ipc_protocol::ids::{Device, Generation, JobId};
use ipc_protocol::request::ImageRequest;
use pool::{
    AcceptedJobs, Action, DeviceLimit, Event, Exit, Files, JobFault, JobPast, KilledBy,
    LastingFact, MeasuredNeed, ModelSpec, Moment, Outcome, Phases, Pool, QuarantinedRequest,
    Registry, RestoredJob, Settings, Ticket,
};

use crate::first_requests::comes_up;
use crate::plan::{WorldPlan, name};
use crate::random::SeededRandom;

const MODELS: usize = 3;
/// Things that happen in a life that is cut short.
const HAPPENINGS: u64 = 400;
/// Everything is answered this long after the last restart.
const LIVENESS: Duration = Duration::from_secs(3600);

/// Counts of all worlds.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct RestartCounts {
    pub(crate) restarts: u64,
    pub(crate) restored: u64,
    pub(crate) answered: u64,
    pub(crate) quarantined: u64,
}

/// Lives this many worlds; the error names the seed that failed.
pub(crate) fn check(worlds: u64) -> Result<RestartCounts, String> {
    let mut counts = RestartCounts::default();
    for seed in 1..=worlds {
        let world = RestartedWorld::new(seed)?;
        world
            .live(&mut counts)
            .map_err(|what| format!("seed {seed}: {what}"))?;
    }
    Ok(counts)
}

/// The knowledge of the next daemon.
struct JournalBooks {
    jobs: BTreeMap<JobId, RestoredJob>,
    quarantine: BTreeMap<String, QuarantinedRequest>,
    needs: BTreeMap<String, MeasuredNeed>,
    last: JobId,
}

/// A worker's next doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum WorkerDoing {
    ComesUp,
    Steps(JobId, u32),
    Dies(JobId, u32, i32),
    Leaves,
    IsKilled(i32),
    GivesUp(JobId),
}

struct RestartedWorld {
    random: SeededRandom,
    settings: Settings,
    registry: Registry,
    limits: Vec<DeviceLimit>,
    now: Moment,
    journal: JournalBooks,
    /// Every job that ever had an answer, and every id that was ever given.
    answered: BTreeSet<JobId>,
    given: BTreeSet<JobId>,
    /// Steps of the running jobs.
    steps: BTreeMap<JobId, u32>,
    life: DaemonLife,
    tickets: u64,
}

/// Everything that ends with a daemon.
#[derive(Default)]
struct DaemonLife {
    asked: BTreeMap<Ticket, (ImageRequest, String)>,
    restoring: BTreeMap<Ticket, JobId>,
    alive: BTreeSet<Generation>,
    due: BinaryHeap<Reverse<(u64, u64, Generation, WorkerDoing)>>,
    sequence: u64,
    /// Workers die in it.
    dangerous: bool,
}

impl RestartedWorld {
    fn new(seed: u64) -> Result<Self, String> {
        let mut random = SeededRandom::new(seed ^ 0x7e57);
        let plan = WorldPlan::quiet(seed, MODELS);
        let specs = plan.registry(&mut random);
        let specs = specs.iter().cloned().map(|spec| ModelSpec {
            pinned: false,
            min_workers: None,
            max_workers: None,
            files: Files::default(),
            ..spec
        });
        let mut limits = plan.device_limits(&mut random);
        for limit in &mut limits {
            limit.limit = ipc_protocol::units::Mebibytes(1_000_000);
            limit.confirms = false;
        }
        limits.retain(|limit| limit.device == Device::Host);
        Ok(Self {
            settings: Settings {
                default_model: name(0).into(),
                queue_per_model: 1000,
                queue_total: 1000,
                ..Settings::default()
            },
            registry: Registry::new(specs.collect())?,
            limits,
            random,
            now: Moment::START,
            journal: JournalBooks {
                jobs: BTreeMap::new(),
                quarantine: BTreeMap::new(),
                needs: BTreeMap::new(),
                last: JobId(0),
            },
            answered: BTreeSet::new(),
            given: BTreeSet::new(),
            steps: BTreeMap::new(),
            life: DaemonLife::default(),
            tickets: 0,
        })
    }

    fn live(mut self, counts: &mut RestartCounts) -> Result<(), String> {
        for _ in 0..self.random.from(2, 6) {
            let mut pool = self.begin(true, counts)?;
            for _ in 0..self.random.from(1, HAPPENINGS) {
                match self.random.permille(150) {
                    true => self.ask(&mut pool)?,
                    false => self.go_on(&mut pool)?,
                }
            }
            counts.restarts += 1;
        }
        let mut pool = self.begin(false, counts)?;
        let until = self.now + LIVENESS;
        while !self.journal.jobs.is_empty() {
            if self.now > until {
                let lost: Vec<&JobId> = self.journal.jobs.keys().collect();
                return Err(format!("lost: {lost:?} have no answer an hour later"));
            }
            self.go_on(&mut pool)?;
        }
        counts.answered += self.answered.len() as u64;
        counts.quarantined += self.journal.quarantine.len() as u64;
        Ok(())
    }

    /// A daemon starts with the journal.
    fn begin(&mut self, dangerous: bool, counts: &mut RestartCounts) -> Result<Pool, String> {
        self.life = DaemonLife {
            dangerous,
            ..DaemonLife::default()
        };
        let mut pool = Pool::new(
            self.settings.clone(),
            self.registry.clone(),
            self.limits.clone(),
        );
        let (last, needs) = (self.journal.last, self.journal.needs.clone());
        self.feed(&mut pool, Event::JobIdsUsed { last })?;
        for need in needs.into_values() {
            self.feed(&mut pool, Event::NeedRestored { need })?;
        }
        for request in self.journal.quarantine.clone().into_values() {
            let request = Box::new(request);
            self.feed(&mut pool, Event::QuarantineRestored { request })?;
        }
        for (id, mut job) in self.journal.jobs.clone() {
            counts.restored += 1;
            let ticket = self.ticket();
            self.life.restoring.insert(ticket, id);
            // Latents are written now and then: those of an earlier step, or none.
            job.past.resume_step = self.random.from(0, job.past.resume_step.into()) as u32;
            let job = Box::new(job);
            self.feed(&mut pool, Event::JobRestored { ticket, job })?;
            if self.life.restoring.contains_key(&ticket) {
                return Err(format!(
                    "restored job {id} was neither accepted nor refused"
                ));
            }
        }
        Ok(pool)
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    fn ask(&mut self, pool: &mut Pool) -> Result<(), String> {
        let request = ImageRequest {
            // Some ask for the same.
            prompt: format!("a fox {}", self.random.from(0, 40)),
            model: Some(name(self.random.below(MODELS)).into()),
            steps: Some(self.random.from(1, 12) as u32),
            count: self.random.from(1, 3) as u32,
            detached: self.random.permille(700),
            ..ImageRequest::new("")
        };
        let (ticket, user) = (self.ticket(), "uid:1".to_owned());
        self.life
            .asked
            .insert(ticket, (request.clone(), user.clone()));
        let entropy = self.random.next();
        let event = Event::RequestArrived {
            ticket,
            request,
            user,
            entropy,
        };
        self.feed(pool, event)
    }

    /// The next thing that workers or the pool's own deadlines do.
    fn go_on(&mut self, pool: &mut Pool) -> Result<(), String> {
        let next = self.life.due.peek().map(|Reverse((at, ..))| *at);
        let deadline = pool.next_deadline().map(|at| at.0.max(self.now.0));
        let at = next.into_iter().chain(deadline).min();
        // Workers are heard all the time.
        let beat = self.now.0 + 400_000;
        self.now = Moment(at.unwrap_or(beat).min(beat));
        for worker in self.life.alive.clone() {
            self.feed(pool, Event::WorkerHeard { worker })?;
        }
        if deadline.is_some_and(|at| at <= self.now.0) {
            self.feed(pool, Event::DeadlineReached)?;
        }
        if next.is_some_and(|at| at <= self.now.0)
            && let Some(Reverse((_, _, worker, doing))) = self.life.due.pop()
        {
            self.act(pool, worker, doing)?;
        }
        Ok(())
    }

    fn later(&mut self, in_us: u64, worker: Generation, doing: WorkerDoing) {
        self.life.sequence += 1;
        let at = self.now.0 + in_us;
        let entry = (at, self.life.sequence, worker, doing);
        self.life.due.push(Reverse(entry));
    }

    fn act(
        &mut self,
        pool: &mut Pool,
        worker: Generation,
        doing: WorkerDoing,
    ) -> Result<(), String> {
        if doing != WorkerDoing::ComesUp && !self.life.alive.contains(&worker) {
            return Ok(());
        }
        match doing {
            WorkerDoing::ComesUp => {
                self.life.alive.insert(worker);
                let mut events = comes_up(worker).into_iter();
                events.try_for_each(|event| self.feed(pool, event))
            }
            WorkerDoing::Steps(job, step) => self.step(pool, worker, job, step),
            WorkerDoing::Dies(_, step, signal) => {
                let by = KilledBy::Other;
                self.exit(pool, worker, Exit::Signal { signal, by }, Some(step))
            }
            WorkerDoing::Leaves => self.exit(pool, worker, Exit::Code(0), None),
            WorkerDoing::IsKilled(signal) => {
                let by = KilledBy::Us;
                self.exit(pool, worker, Exit::Signal { signal, by }, None)
            }
            WorkerDoing::GivesUp(job) => {
                let fault = JobFault::Cancelled;
                self.feed(pool, Event::JobFailed { worker, job, fault })
            }
        }
    }

    fn step(
        &mut self,
        pool: &mut Pool,
        worker: Generation,
        job: JobId,
        step: u32,
    ) -> Result<(), String> {
        let steps = self.steps.get(&job).copied().unwrap_or(0);
        if step > steps {
            let phases = Phases::default();
            return self.feed(
                pool,
                Event::JobFinished {
                    worker,
                    job,
                    phases,
                },
            );
        }
        if self.life.dangerous && self.random.permille(80) {
            let signal = [9, 9, 11][self.random.below(3)];
            self.later(1, worker, WorkerDoing::Dies(job, step - 1, signal));
            return Ok(());
        }
        if let Some(restored) = self.journal.jobs.get_mut(&job) {
            // The driver writes latents from time to time.
            restored.past.resume_step = step.min(steps);
        }
        let pause = self.random.from(5_000, 200_000);
        self.later(pause, worker, WorkerDoing::Steps(job, step + 1));
        self.feed(pool, Event::StepFinished { worker, job, step })
    }

    fn exit(
        &mut self,
        pool: &mut Pool,
        worker: Generation,
        exit: Exit,
        resume_step: Option<u32>,
    ) -> Result<(), String> {
        self.life.alive.remove(&worker);
        self.feed(
            pool,
            Event::WorkerExited {
                worker,
                exit,
                resume_step: resume_step.filter(|step| *step > 0),
            },
        )
    }

    fn feed(&mut self, pool: &mut Pool, event: Event) -> Result<(), String> {
        let mut actions = Vec::new();
        pool.handle(self.now, event, &mut actions);
        actions
            .into_iter()
            .try_for_each(|action| self.carry_out(action))
    }

    fn carry_out(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Accept(accepted) => self.accepted(accepted),
            Action::Refuse { ticket, failure } => {
                let Some(job) = self.life.restoring.remove(&ticket) else {
                    return Ok(());
                };
                match failure.kind {
                    FailureKind::Quarantined => self.answer(job),
                    _ => Err(format!("restored job {job} was refused: {failure}")),
                }
            }
            Action::Answer { job, outcome } => {
                if let Outcome::Failure(failure) = &outcome
                    && failure.kind != FailureKind::Quarantined
                {
                    return Err(format!("job {job} failed: {failure}"));
                }
                self.answer(job)
            }
            Action::Start(start) => {
                let load = self.random.from(5_000, 300_000);
                self.later(load, start.worker, WorkerDoing::ComesUp);
                Ok(())
            }
            Action::Run(run) => {
                if run.resume_step > run.parameters.steps {
                    return Err(format!(
                        "job {} goes on after step {}",
                        run.job, run.resume_step
                    ));
                }
                self.steps.insert(run.job, run.parameters.steps);
                let doing = WorkerDoing::Steps(run.job, run.resume_step + 1);
                self.later(10_000, run.worker, doing);
                Ok(())
            }
            Action::Cancel { worker, job } => {
                self.later(1000, worker, WorkerDoing::GivesUp(job));
                Ok(())
            }
            Action::AskToLeave { worker } => {
                self.later(1000, worker, WorkerDoing::Leaves);
                Ok(())
            }
            Action::Terminate { worker } => {
                self.later(1000, worker, WorkerDoing::IsKilled(15));
                Ok(())
            }
            Action::Kill { worker } => {
                self.later(1000, worker, WorkerDoing::IsKilled(9));
                Ok(())
            }
            Action::Remember(fact) => {
                self.remember(fact);
                Ok(())
            }
            Action::AwaitFiles { .. } => Err("every model has its files".into()),
            Action::Fetch { .. }
            | Action::StopFetch { .. }
            | Action::Acknowledge { .. }
            | Action::Measure { .. }
            | Action::AskTruce { .. }
            | Action::EndTruce { .. }
            | Action::Report { .. }
            | Action::Tell(_)
            | Action::Exit => Ok(()),
        }
    }

    fn accepted(&mut self, accepted: AcceptedJobs) -> Result<(), String> {
        if let Some(job) = self.life.restoring.remove(&accepted.ticket) {
            let same = accepted.jobs == [job];
            let again = self.answered.contains(&job);
            return match (same, again) {
                (true, false) => Ok(()),
                (false, _) => Err(format!("job {job} came back as {:?}", accepted.jobs)),
                (true, true) => Err(format!("job {job} came back after its answer")),
            };
        }
        let asked = self.life.asked.remove(&accepted.ticket);
        let (request, user) = asked.ok_or("nobody asked for what was accepted")?;
        for (nth, &job) in (0..).zip(&accepted.jobs) {
            if !self.given.insert(job) {
                return Err(format!("the id {job} was given twice"));
            }
            self.journal.last = self.journal.last.max(job);
            if !request.detached {
                continue;
            }
            let chosen = ImageRequest {
                model: Some(accepted.model.as_str().to_owned()),
                size: Some(accepted.size),
                steps: Some(accepted.steps),
                guidance: Some(accepted.guidance),
                seed: Some(accepted.seed.wrapping_add(nth)),
                count: 1,
                ..request.clone()
            };
            let restored = RestoredJob {
                job,
                request: chosen,
                user: user.clone(),
                digest: accepted.digest.clone(),
                past: JobPast::default(),
            };
            self.journal.jobs.insert(job, restored);
        }
        Ok(())
    }

    fn answer(&mut self, job: JobId) -> Result<(), String> {
        self.journal.jobs.remove(&job);
        match self.answered.insert(job) {
            true => Ok(()),
            false => Err(format!("job {job} was answered twice")),
        }
    }

    fn remember(&mut self, fact: LastingFact) {
        match fact {
            LastingFact::JobLost { job, past } => {
                if let Some(restored) = self.journal.jobs.get_mut(&job) {
                    restored.past = past;
                }
            }
            LastingFact::Quarantined(request) => {
                self.journal
                    .quarantine
                    .insert(request.name.clone(), request);
            }
            LastingFact::Released { names } => {
                for name in names {
                    self.journal.quarantine.remove(&name);
                }
            }
            LastingFact::NeedMeasured(need) => {
                self.journal.needs.insert(need.model.to_string(), need);
            }
        }
    }
}
