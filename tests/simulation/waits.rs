//! Every wait ends in time: silent workers, waiting jobs, and jobs for one device.
//!
//! Silent workers are told to leave. A job that waited for its longest time loses no room to a younger one,
//! and a job for a device without a worker is not passed over without end by younger ones elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use ipc_protocol::ids::{Device, DeviceWish, Generation, JobId, ModelKey};
use pool::{Action, DeviceLimit, Event, Moment, Notice, Registry, Run, Settings};

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
    /// Most workers of each model.
    most: BTreeMap<ModelKey, usize>,
    workers: BTreeMap<Generation, Watched>,
    jobs: BTreeMap<JobId, Waiting>,
    not_before: BTreeMap<ModelKey, Moment>,
}

struct Watched {
    model: ModelKey,
    device: Device,
    heard: Moment,
    greeted: bool,
    leaving: bool,
}

struct Waiting {
    model: ModelKey,
    wish: DeviceWish,
    accepted: Moment,
    on: Option<Generation>,
    /// Younger jobs that its model's workers took while it lacked a place among them.
    overtaken: u32,
}

impl Waits {
    pub(crate) fn new(settings: &Settings, registry: &Registry, limits: &[DeviceLimit]) -> Self {
        let most = registry.iter().map(|spec| {
            let most = spec.max_workers.unwrap_or(settings.max_workers_per_model);
            (spec.key.clone(), most.max(1) as usize)
        });
        Self {
            settings: settings.clone(),
            one_device: limits.len() == 1,
            meddled: false,
            most: most.collect(),
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
        let wish = match event {
            Event::RequestArrived { request, .. } => request.device,
            _ => DeviceWish::Auto,
        };
        for action in actions {
            if let Action::Run(run) = action {
                self.check_place(now, run)?;
            }
            self.note(now, wish, action);
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
        match event {
            Event::WorkerExited { worker, .. } | Event::WorkerStartFailed { worker, .. } => {
                self.workers.remove(worker);
                for job in self.jobs.values_mut() {
                    job.on = job.on.filter(|on| on != worker);
                }
            }
            Event::JobFailed { worker, job, .. } => {
                if let Some(job) = self.jobs.get_mut(job) {
                    job.on = job.on.filter(|on| on != worker);
                }
            }
            Event::ModelsChanged { .. }
            | Event::SettingsChanged { .. }
            | Event::StopRequested { .. }
            | Event::RestartRequested { .. }
            | Event::DrainRequested { .. } => self.meddled = true,
            _ => {}
        }
        if let Event::LoopStalled { lasted } = event {
            for watched in self.workers.values_mut() {
                watched.heard = (watched.heard + *lasted).min(now);
            }
        }
        if let Some(watched) = event.said_by().and_then(|by| self.workers.get_mut(&by)) {
            watched.heard = now;
            watched.greeted |= matches!(event, Event::WorkerSaidHello { .. });
        }
    }

    fn note(&mut self, now: Moment, wish: DeviceWish, action: &Action) {
        let mut hold = |model: &ModelKey, span: Duration| {
            let until = self.not_before.entry(model.clone()).or_default();
            *until = (*until).max(now + span);
        };
        match action {
            Action::Accept(accepted) => {
                for &job in &accepted.jobs {
                    let waiting = Waiting {
                        model: accepted.model.clone(),
                        wish,
                        accepted: now,
                        on: None,
                        overtaken: 0,
                    };
                    self.jobs.insert(job, waiting);
                }
            }
            Action::Start(start) => {
                let watched = Watched {
                    model: start.model.clone(),
                    device: start.device,
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
            | Action::Measure { .. }
            | Action::Report { .. }
            | Action::Tell(_)
            | Action::Exit => {}
        }
    }

    /// Counts a start for the older jobs of that model which no worker can take and for which there
    /// is no place for one that could.
    fn check_place(&mut self, now: Moment, run: &Run) -> Verdict {
        let Some(model) = self.workers.get(&run.worker).map(|by| by.model.clone()) else {
            return Ok(());
        };
        let own = || self.workers.values().filter(|w| w.model == model);
        let full = own().count() >= self.most.get(&model).copied().unwrap_or(usize::MAX);
        let held = self.not_before.get(&model).is_some_and(|at| now < *at);
        if !full || held || self.meddled || self.settings.fifo {
            return Ok(());
        }
        let served: Vec<Device> = own().filter(|w| !w.leaving).map(|w| w.device).collect();
        for (id, job) in self.jobs.range_mut(..run.job) {
            let DeviceWish::On(device) = job.wish else {
                continue;
            };
            if job.on.is_some() || job.model != model || served.contains(&device) {
                continue;
            }
            job.overtaken += 1;
            if job.overtaken > self.settings.max_overtakes {
                return Err(format!(
                    "job {id} for {device} was overtaken {} times by jobs of its model",
                    job.overtaken
                ));
            }
        }
        Ok(())
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
