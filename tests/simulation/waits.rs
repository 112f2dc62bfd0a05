//! Nobody is waited for longer than was said: silent workers are told to leave, and a job that waited
//! for as long as it may does not see its room go to a younger one.

use std::collections::BTreeMap;
use std::time::Duration;

use ipc_protocol::ids::{Generation, JobId, ModelKey};
use pool::{Action, DeviceLimit, Event, Moment, Notice, Settings};

use crate::shadow::Verdict;

/// The longest back-off; a start that failed does not say its own.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Who is heard when, and who waits since when.
pub(crate) struct Waits {
    settings: Settings,
    /// Room that one model lacks is the room that another takes.
    one_device: bool,
    /// Stops, changes and winding down give other reasons not to start.
    meddled: bool,
    workers: BTreeMap<Generation, Watched>,
    jobs: BTreeMap<JobId, Waiting>,
    not_before: BTreeMap<ModelKey, Moment>,
}

struct Watched {
    model: ModelKey,
    heard: Moment,
    greeted: bool,
    leaving: bool,
}

struct Waiting {
    model: ModelKey,
    accepted: Moment,
    on: Option<Generation>,
}

impl Waits {
    pub(crate) fn new(settings: &Settings, limits: &[DeviceLimit]) -> Self {
        Self {
            settings: settings.clone(),
            one_device: limits.len() == 1,
            meddled: false,
            workers: BTreeMap::new(),
            jobs: BTreeMap::new(),
            not_before: BTreeMap::new(),
        }
    }

    pub(crate) fn check(&mut self, now: Moment, event: &Event, actions: &[Action]) -> Verdict {
        self.hear(now, event);
        let starts = actions.iter().any(|a| matches!(a, Action::Start(_)));
        let oldest = match starts {
            true => self.oldest(),
            false => BTreeMap::new(),
        };
        for action in actions {
            self.note(now, action);
        }
        if *event == Event::DeadlineReached {
            self.check_silence(now)?;
        }
        match starts && self.one_device && !self.meddled && !self.settings.fifo {
            true => self.check_starts(now, actions, &oldest),
            false => Ok(()),
        }
    }

    fn hear(&mut self, now: Moment, event: &Event) {
        let worker = match event {
            Event::WorkerStarted { worker, .. }
            | Event::WorkerSaidHello { worker }
            | Event::LoadProgressed { worker, .. }
            | Event::LoadFailed { worker, .. }
            | Event::WorkerReady { worker, .. }
            | Event::WorkerHeard { worker }
            | Event::StepFinished { worker, .. }
            | Event::JobFinished { worker, .. }
            | Event::JobFailed { worker, .. } => *worker,
            Event::WorkerExited { worker, .. } | Event::WorkerStartFailed { worker, .. } => {
                self.workers.remove(worker);
                for job in self.jobs.values_mut() {
                    job.on = job.on.filter(|on| on != worker);
                }
                return;
            }
            Event::ModelsChanged { .. }
            | Event::SettingsChanged { .. }
            | Event::StopRequested { .. }
            | Event::RestartRequested { .. }
            | Event::DrainRequested { .. } => {
                self.meddled = true;
                return;
            }
            _ => return,
        };
        if let Some(watched) = self.workers.get_mut(&worker) {
            watched.heard = now;
            watched.greeted |= matches!(event, Event::WorkerSaidHello { .. });
        }
        if let Event::JobFailed { job, .. } = event
            && let Some(job) = self.jobs.get_mut(job)
        {
            job.on = job.on.filter(|on| *on != worker);
        }
    }

    fn note(&mut self, now: Moment, action: &Action) {
        let mut hold = |model: &ModelKey, span: Duration| {
            let until = self.not_before.entry(model.clone()).or_default();
            *until = (*until).max(now + span);
        };
        match action {
            Action::Accept(accepted) => {
                for &job in &accepted.jobs {
                    let waiting = Waiting {
                        model: accepted.model.clone(),
                        accepted: now,
                        on: None,
                    };
                    self.jobs.insert(job, waiting);
                }
            }
            Action::Start(start) => {
                let watched = Watched {
                    model: start.model.clone(),
                    heard: now,
                    greeted: false,
                    leaving: false,
                };
                self.workers.insert(start.worker, watched);
            }
            Action::Run(run) => {
                if let Some(job) = self.jobs.get_mut(&run.job) {
                    job.on = Some(run.worker);
                }
            }
            Action::AskToLeave { worker }
            | Action::Terminate { worker }
            | Action::Kill { worker } => {
                if let Some(watched) = self.workers.get_mut(worker) {
                    watched.leaving = true;
                }
            }
            Action::Answer { job, .. } => {
                self.jobs.remove(job);
            }
            Action::Tell(Notice::Died { name, backoff, .. }) => hold(&name.model, *backoff),
            Action::Tell(Notice::SpawnFailed { name, .. }) => hold(&name.model, BACKOFF_MAX),
            Action::Tell(
                Notice::BreakerOpened {
                    model, for_long, ..
                }
                | Notice::LoadCooling {
                    model, for_long, ..
                },
            ) => hold(model, *for_long),
            Action::Refuse { .. }
            | Action::Acknowledge { .. }
            | Action::Cancel { .. }
            | Action::Report { .. }
            | Action::Tell(_)
            | Action::Exit => {}
        }
    }

    fn check_silence(&self, now: Moment) -> Verdict {
        let patience = &self.settings.patience;
        for (worker, watched) in &self.workers {
            let most = match watched.greeted {
                true => patience.heartbeat,
                false => patience.hello,
            };
            if !watched.leaving && watched.heard + most < now {
                let silent = now.since(watched.heard);
                return Err(format!(
                    "worker {worker} is silent for {silent:?} and stays"
                ));
            }
        }
        Ok(())
    }

    /// The oldest waiting job of every model.
    fn oldest(&self) -> BTreeMap<ModelKey, JobId> {
        let mut oldest = BTreeMap::new();
        for (&id, job) in self.jobs.iter().filter(|(_, job)| job.on.is_none()) {
            oldest.entry(job.model.clone()).or_insert(id);
        }
        oldest
    }

    /// No start takes the room of an older job that waited for long enough and has no worker to wait for.
    fn check_starts(
        &self,
        now: Moment,
        actions: &[Action],
        before: &BTreeMap<ModelKey, JobId>,
    ) -> Verdict {
        let after = self.oldest();
        let due = after.iter().filter(|(model, id)| {
            let held = self.not_before.get(model).is_some_and(|at| now < *at);
            let served = self.workers.values().any(|worker| worker.model == **model);
            !held && !served && self.jobs[id].accepted + self.settings.max_overtake <= now
        });
        let Some((model, due)) = due.min_by_key(|(_, id)| **id) else {
            return Ok(());
        };
        for action in actions {
            let Action::Start(start) = action else {
                continue;
            };
            let own = [before.get(&start.model), after.get(&start.model)];
            let own = own.into_iter().flatten().min();
            if own.is_none_or(|own| own > due) {
                let waited = now.since(self.jobs[due].accepted);
                return Err(format!(
                    "{} starts for {own:?} and job {due} of {model} waits for {waited:?}",
                    start.model
                ));
            }
        }
        Ok(())
    }
}
