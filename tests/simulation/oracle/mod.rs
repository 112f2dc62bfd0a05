//! A sequential oracle: which outcomes a request may have, and when one is due.
//!
//! It knows nothing of queues, places or books.
//!
//! - `request` is what a request may say, and why it may be refused
//! - `losses` is what happened to it while it ran, `outcome` how it may end
//! - `quarantine` is what may not come back

mod losses;
mod outcome;
mod quarantine;
mod request;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipc_protocol::failure::FailureKind;
use ipc_protocol::ids::{Device, Generation, JobId};
use ipc_protocol::request::ImageRequest;
use pool::{
    Action, DeviceLimit, Drain, Event, ModelSpec, Moment, Notice, Outcome, Parameters, Registry,
    Run, Settings, StopReason, Target, Ticket,
};

use crate::shadow::Verdict;
use quarantine::Quarantine;

/// Attempts in a row that bring a job no further, after which nobody tries again.
const FRUITLESS_MAX: u32 = 16;
/// Times that a job may run out of memory.
const MEMORY_MAX: u32 = 2;

/// Every job's fate so far, and every model's troubles.
pub(crate) struct Oracle {
    settings: Settings,
    specs: BTreeMap<String, ModelSpec>,
    offered: BTreeSet<String>,
    devices: Vec<Device>,
    asked: BTreeMap<Ticket, Asked>,
    jobs: BTreeMap<JobId, Fate>,
    deadlines: BTreeSet<(Moment, JobId)>,
    workers: BTreeMap<Generation, Hand>,
    troubles: BTreeMap<String, Troubles>,
    quarantine: Quarantine,
    draining: bool,
    ends: Option<Moment>,
    /// It said `Exit` and hears no more.
    gone: bool,
}

/// A request without an answer.
struct Asked {
    request: ImageRequest,
    entropy: u64,
}

/// An accepted job and what happened to it.
struct Fate {
    model: String,
    ticket: Ticket,
    detached: bool,
    deadline: Option<Moment>,
    parameters: Parameters,
    on: Option<Generation>,
    attempts: u32,
    resume_step: u32,
    /// Attempts in a row that brought it no further.
    fruitless: u32,
    /// How often it ran out of memory itself.
    memory: u32,
    /// Steps that are safe.
    salvaged: u32,
    losses: u32,
    suspects: u32,
}

/// A process: what it was given, and why it was told to leave.
struct Hand {
    model: String,
    job: Option<JobId>,
    loaded: bool,
    told: Option<StopReason>,
}

/// What went wrong with a model.
#[derive(Default)]
struct Troubles {
    stopped: bool,
    in_a_row: u32,
    last_failure: Option<Moment>,
    last_load_failure: Option<Moment>,
}

/// What the event says of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    /// Nothing.
    None,
    /// Its worker finished it.
    Finished(JobId),
    /// Its worker lives and gave it up for this kind of reason.
    GaveUp(JobId, FailureKind),
    /// It lost its worker.
    Lost(JobId),
}

impl Oracle {
    pub(crate) fn new(settings: &Settings, registry: &Registry, limits: &[DeviceLimit]) -> Self {
        let mut oracle = Self {
            settings: settings.clone(),
            specs: BTreeMap::new(),
            offered: BTreeSet::new(),
            devices: limits.iter().map(|limit| limit.device).collect(),
            asked: BTreeMap::new(),
            jobs: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            workers: BTreeMap::new(),
            troubles: BTreeMap::new(),
            quarantine: Quarantine::default(),
            draining: false,
            ends: None,
            gone: false,
        };
        oracle.learn(registry);
        oracle
    }

    fn learn(&mut self, registry: &Registry) {
        self.offered = registry.iter().map(|spec| spec.key.to_string()).collect();
        let specs = registry.iter().cloned();
        self.specs
            .extend(specs.map(|spec| (spec.key.to_string(), spec)));
    }

    /// Whether everything that was answered because of an event could be, and what had to be was.
    pub(crate) fn check(&mut self, now: Moment, event: &Event, actions: &[Action]) -> Verdict {
        if self.gone {
            return Ok(());
        }
        self.hear_people(now, event);
        let news = self.hear_worker(now, event);
        for action in actions {
            match action {
                Action::Accept(accepted) => self.accept(now, accepted)?,
                Action::Refuse { ticket, failure } => self.refuse(now, *ticket, failure.kind)?,
                Action::Start(start) => {
                    let hand = Hand {
                        model: start.model.to_string(),
                        job: None,
                        loaded: false,
                        told: None,
                    };
                    self.workers.insert(start.worker, hand);
                }
                Action::Run(run) => self.run(run),
                Action::Tell(Notice::Stopping { worker, why, .. }) => {
                    if let Some(hand) = self.workers.get_mut(worker) {
                        hand.told = Some(*why);
                    }
                }
                Action::Tell(Notice::Quarantined { job, digest, .. }) => {
                    if let Some(fate) = self.jobs.get(job) {
                        let fingerprint = self.fingerprint(&fate.model, &fate.parameters);
                        self.quarantine.call(now, fingerprint, digest)?;
                    }
                }
                Action::Acknowledge {
                    ticket,
                    lines,
                    success,
                } => {
                    let lasts = self.settings.quarantine;
                    self.quarantine
                        .check_answer((now, lasts), event, *ticket, lines, *success)?;
                }
                Action::Answer { job, outcome } => self.answer(now, event, news, *job, outcome)?,
                Action::Cancel { .. }
                | Action::AskToLeave { .. }
                | Action::Terminate { .. }
                | Action::Kill { .. }
                | Action::Measure { .. }
                | Action::Report { .. }
                | Action::Tell(_) => {}
                Action::Exit => self.gone = true,
            }
        }
        if let Some((ticket, _)) = self.asked.pop_first() {
            return Err(format!("{ticket:?} asked and was told nothing"));
        }
        self.check_due(now, event, news)
    }

    fn hear_people(&mut self, now: Moment, event: &Event) {
        match event {
            Event::RequestArrived {
                ticket,
                request,
                entropy,
                ..
            } => {
                let (request, entropy) = (request.clone(), *entropy);
                self.asked.insert(*ticket, Asked { request, entropy });
            }
            Event::StopRequested { target, .. } => self.order(target, true),
            Event::StartRequested { target, .. } | Event::RestartRequested { target, .. } => {
                self.order(target, false);
            }
            Event::DrainRequested { drain, .. } => {
                self.draining = drains(self.draining, *drain, self.ends);
                let end = end_of(*drain, now, &self.settings);
                self.ends = [self.ends, end].into_iter().flatten().min();
            }
            Event::QuarantineReleased { digest, .. } => {
                let lasts = self.settings.quarantine;
                self.quarantine.release(now, lasts, digest.as_deref());
            }
            Event::SettingsChanged { settings } => self.settings = (**settings).clone(),
            Event::ModelsChanged { registry } => self.learn(registry),
            _ => {}
        }
    }

    fn order(&mut self, target: &Target, stopped: bool) {
        for key in self.specs.keys() {
            let meant = match target {
                Target::All => true,
                Target::Model(model) => model.as_str() == key,
                // The last worker takes its model with it; a slot that is started may not exist.
                Target::Worker(name) => stopped && name.model.as_str() == key,
            };
            // What is not offered now is not started with the others.
            if meant && (stopped || self.offered.contains(key)) {
                self.troubles.entry(key.clone()).or_default().stopped = stopped;
            }
        }
    }

    fn run(&mut self, run: &Run) {
        if let Some(hand) = self.workers.get_mut(&run.worker) {
            hand.job = Some(run.job);
        }
        if let Some(fate) = self.jobs.get_mut(&run.job) {
            fate.on = Some(run.worker);
            fate.attempts += 1;
            fate.resume_step = run.resume_step;
        }
    }

    fn accept(&mut self, now: Moment, accepted: &pool::AcceptedJobs) -> Verdict {
        let Some(Asked { request, entropy }) = self.asked.remove(&accepted.ticket) else {
            return Err(format!("accepted {:?}, which did not ask", accepted.ticket));
        };
        let spec = self.asked_for(&request);
        let resolved = spec.and_then(|spec| self.resolve(spec, &request, entropy));
        let Some((model, parameters)) = resolved else {
            return Err(format!("accepted what cannot be: {request:?}"));
        };
        if self.is_quarantined(now, &model, &parameters) {
            return Err(format!("let in again what killed its workers: {request:?}"));
        }
        let same = accepted.model.as_str() == model
            && accepted.size == parameters.size
            && accepted.steps == parameters.steps
            && accepted.guidance == parameters.guidance
            && accepted.seed == parameters.seed;
        if !same {
            return Err(format!("{accepted:?} should have {parameters:?}"));
        }
        let timeout = request.timeout_ms.map(Duration::from_millis);
        for (nth, &job) in (0..).zip(&accepted.jobs) {
            let deadline = timeout.map(|timeout| now + timeout);
            self.deadlines.extend(deadline.map(|at| (at, job)));
            let seed = parameters.seed.wrapping_add(nth);
            let fate = Fate {
                model: model.clone(),
                ticket: accepted.ticket,
                detached: request.detached,
                deadline,
                parameters: Parameters {
                    seed,
                    ..parameters.clone()
                },
                on: None,
                attempts: 0,
                resume_step: 0,
                fruitless: 0,
                memory: 0,
                salvaged: 0,
                losses: 0,
                suspects: 0,
            };
            self.jobs.insert(job, fate);
        }
        Ok(())
    }

    fn answer(
        &mut self,
        now: Moment,
        event: &Event,
        news: News,
        job: JobId,
        outcome: &Outcome,
    ) -> Verdict {
        let Some(fate) = self.jobs.remove(&job) else {
            return Err(format!("job {job} is answered and does not want it"));
        };
        if let Some(deadline) = fate.deadline {
            self.deadlines.remove(&(deadline, job));
        }
        let may = match outcome {
            Outcome::Picture(facts) => {
                let troubles = self.trouble(&fate.model);
                if troubles.in_a_row < self.settings.breaker_failures {
                    self.trouble(&fate.model).in_a_row = 0;
                }
                news == News::Finished(job) && outcome::is_its_picture(now, &fate, facts)
            }
            Outcome::Failure(failure) => self.may_fail(now, event, news, job, &fate, failure.kind),
        };
        match may {
            true => Ok(()),
            false => Err(format!(
                "job {job} may not end like this after {} attempts, {} losses, {} of them suspect: {outcome:?}",
                fate.attempts, fate.losses, fate.suspects
            )),
        }
    }

    /// It may have no other attempt.
    fn is_given_up(&self, fate: &Fate) -> bool {
        fate.suspects >= self.settings.max_attempts
            || fate.memory >= MEMORY_MAX
            || fate.fruitless >= FRUITLESS_MAX
    }

    fn is_quarantined(&self, now: Moment, model: &str, parameters: &Parameters) -> bool {
        let fingerprint = self.fingerprint(model, parameters);
        self.quarantine
            .contains(now, self.settings.quarantine, &fingerprint)
    }

    /// What had to be answered with this event was.
    fn check_due(&self, now: Moment, event: &Event, news: News) -> Verdict {
        let due = match event {
            Event::DeadlineReached => {
                let first = self.deadlines.first();
                first.filter(|(at, _)| *at <= now).map(|(_, job)| *job)
            }
            Event::RequestCancelled { job, .. } => Some(*job),
            Event::ClientGone { .. } => {
                let gone = |(job, fate): &(&JobId, &Fate)| outcome::is_unwanted(event, **job, fate);
                self.jobs.iter().find(gone).map(|(job, _)| *job)
            }
            _ => match news {
                News::Finished(job) | News::GaveUp(job, _) => Some(job),
                News::Lost(job) => {
                    let fate = self.jobs.get(&job);
                    fate.filter(|fate| self.is_given_up(fate)).map(|_| job)
                }
                News::None => None,
            },
        };
        match due.filter(|job| self.jobs.contains_key(job)) {
            Some(job) => Err(format!("job {job} has no answer after {event:?}")),
            None => Ok(()),
        }
    }
}

/// Whether nothing new is taken after this word; one that exits cannot be taken back.
pub(crate) fn drains(before: bool, drain: Drain, ends: Option<Moment>) -> bool {
    match drain {
        Drain::Stay | Drain::Exit | Drain::ExitNow => true,
        Drain::Undo => before && ends.is_some(),
    }
}

/// When what is left is cancelled, if it ever is.
pub(crate) fn end_of(drain: Drain, now: Moment, settings: &Settings) -> Option<Moment> {
    match drain {
        Drain::Stay | Drain::Undo => None,
        Drain::Exit => Some(now + settings.drain),
        Drain::ExitNow => Some(now),
    }
}
