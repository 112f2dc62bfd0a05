//! A second set of books, kept from events and actions alone.
//!
//! They are compared with the pool's own sums.

mod compare;
mod jobs;
mod memory;
mod workers;

use std::collections::{BTreeMap, BTreeSet};

use ipc_protocol::ids::{Device, Generation, JobId};
use ipc_protocol::units::{Mebibytes, PictureSize};
use pool::{
    Action, DeviceLimit, Drain, Event, Exit, KilledBy, ModelSpec, Moment, Notice, Parameters,
    Registry, Settings, StopReason, Ticket,
};

/// Says what is wrong.
pub(crate) type Verdict = Result<(), String>;

/// Most actions one event may cause, besides those per job and worker.
const ACTIONS_MAX: usize = 400;

/// The second set of books.
pub(crate) struct Shadow {
    settings: Settings,
    specs: BTreeMap<String, ModelSpec>,
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
    /// It was told to exit, which cannot be undone.
    leaving: bool,
    exited: bool,
    forgiving: bool,
    crowded_out: bool,
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
    /// What the picture that it was given takes beyond the usual, as its model was then.
    extra: Mebibytes,
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
    /// Workers that ended with it by a signal of their own or a panic.
    crashes: u32,
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
            leaving: false,
            exited: false,
            forgiving: false,
            crowded_out: false,
            first_failure: None,
            answers: 0,
            pictures: 0,
        };
        shadow.learn(registry);
        shadow
    }

    fn learn(&mut self, registry: &Registry) {
        let specs = registry.iter();
        self.specs
            .extend(specs.map(|spec| (spec.key.to_string(), spec.clone())));
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
                resume_step,
            } => self.worker_gone(*worker, Some(*exit), *resume_step),
            Event::WorkerStartFailed { worker, .. } => self.worker_gone(*worker, None, None),
            Event::MemoryReturned { worker } => self.release(*worker, |_| true),
            Event::StartRequested { .. } | Event::RestartRequested { .. } => self.forgiving = true,
            Event::ModelsChanged { registry } => {
                self.forgiving = true;
                self.learn(registry);
            }
            Event::DrainRequested { drain, .. } => match drain {
                Drain::Stay => self.draining = true,
                Drain::Exit | Drain::ExitNow => (self.draining, self.leaving) = (true, true),
                Drain::Undo => self.draining &= self.leaving,
            },
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
            Action::Acknowledge { .. } | Action::Measure { .. } => Ok(()),
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
}

/// A signal of the given number that nobody of us sent.
pub(crate) fn crash(signal: i32) -> Exit {
    Exit::Signal {
        signal,
        by: KilledBy::Other,
    }
}
