//! What actions do.

use ipc_protocol::ids::{DeviceWish, Generation, JobId};
use ipc_protocol::units::Mebibytes;
use pool::{AcceptedJobs, Action, Moment, Notice, Run, Start, StopReason};

use super::{Hand, Life, Scene, Stops, Task};

impl Scene {
    pub(crate) fn act(&mut self, now: Moment, action: &Action) {
        match action {
            Action::Accept(accepted) => self.accept(now, accepted),
            Action::Start(start) => self.start(now, start),
            Action::Run(run) => self.run(now, run),
            Action::Cancel { worker, job } => {
                if let Some(hand) = self.workers.get_mut(worker) {
                    (hand.life, hand.since, hand.progressed) = (Life::Unwinding(*job), now, now);
                }
            }
            Action::AskToLeave { worker } => self.leave(now, *worker, 1),
            Action::Terminate { worker } => self.leave(now, *worker, 2),
            Action::Kill { worker } => self.leave(now, *worker, 3),
            Action::Measure { worker } => {
                if let Some(hand) = self.workers.get_mut(worker) {
                    hand.asked = Some(now);
                }
            }
            Action::Answer { job, .. } => self.answer(*job),
            Action::Tell(notice) => self.tell(notice),
            Action::Exit => self.gone = true,
            Action::Refuse { .. } => self.asked = None,
            Action::Acknowledge { .. } | Action::Report { .. } => {}
        }
    }

    fn accept(&mut self, now: Moment, accepted: &AcceptedJobs) {
        let Some((request, user)) = self.asked.take() else {
            return;
        };
        let key = &accepted.model;
        let places = self.places(&self.models[key], request.device);
        let everywhere = places
            .iter()
            .all(|&at| self.could_have(key, at, accepted.size));
        let wish = match (everywhere, self.devices.len()) {
            (true, _) | (_, 1) => Some(request.device),
            (false, _) => None,
        };
        let negative = request.negative.as_ref().map_or(0, String::len);
        for &job in &accepted.jobs {
            let task = Task {
                model: key.clone(),
                user: user.clone(),
                priority: request.priority,
                wish,
                size: accepted.size,
                steps: accepted.steps,
                bytes: request.prompt.len() + negative,
                accepted: now,
                since: now,
                on: None,
                attempts: 0,
                step: 0,
                resume_step: 0,
                began: now,
                more: Mebibytes::ZERO,
                again: false,
                losses: Vec::new(),
            };
            self.jobs.insert(job, task);
            self.model_mut(key).waiting.insert(job);
        }
    }

    fn start(&mut self, now: Moment, start: &Start) {
        let hand = Hand {
            name: start.name.clone(),
            device: start.device,
            promised: start.reserved.clone(),
            extra: Mebibytes::ZERO,
            life: Life::Starting,
            pid: None,
            started: now,
            since: now,
            heard: now,
            progressed: now,
            worked: now,
            work: 0,
            asked: None,
            samples: Vec::new(),
            permille: 0,
            footprint: None,
            stretched: false,
            outdated: false,
            was_loading: true,
            jobs_done: 0,
            told: None,
            said: None,
            stops: None,
        };
        self.workers.insert(start.worker, hand);
        self.counts[0] += 1;
        self.counts[3] += u64::from(self.evicting.remove(&start.model));
        let model = self.model_mut(&start.model);
        model.owed = model.owed.saturating_sub(1);
        model.workers.insert(start.worker);
    }

    fn run(&mut self, now: Moment, run: &Run) {
        let Some(task) = self.jobs.get_mut(&run.job) else {
            return;
        };
        (task.on, task.began) = (Some(run.worker), now);
        (task.step, task.resume_step) = (run.resume_step, run.resume_step);
        task.attempts = run.attempt;
        let (key, size, more) = (task.model.clone(), task.size, task.more);
        let usual = self.extra(&self.models[&key], size);
        let on = self.workers.get(&run.worker).map(|hand| hand.device);
        // More than it was let in with is had where there is room for it.
        let extra = match on.is_some_and(|on| usual + more <= self.free(on)) {
            true => usual + more,
            false => usual,
        };
        self.model_mut(&key).waiting.remove(&run.job);
        if let Some(hand) = self.workers.get_mut(&run.worker) {
            (hand.life, hand.since, hand.progressed) = (Life::Busy(run.job), now, now);
            hand.shows_work(now);
            hand.extra = extra;
            hand.stretched |= extra > Mebibytes::ZERO;
        }
    }

    /// `step` is 1 for a request to leave, 2 for SIGTERM, 3 for SIGKILL.
    fn leave(&mut self, now: Moment, worker: Generation, step: u32) {
        let Some(hand) = self.workers.get_mut(&worker) else {
            return;
        };
        let before = hand.stops;
        let killed = before.and_then(|stops| stops.killed);
        hand.stops = Some(Stops {
            from: before.map_or(hand.since, |stops| stops.from),
            steps: step,
            last: now,
            killed: killed.or((step == 3).then_some(now)),
        });
        if hand.is_live() {
            // What its picture took is its own until it is gone.
            let extra = std::mem::take(&mut hand.extra);
            *hand.promised.entry(hand.device).or_default() += extra;
            hand.life = Life::Leaving(hand.job());
            hand.since = now;
        }
    }

    fn answer(&mut self, job: JobId) {
        let Some(task) = self.jobs.remove(&job) else {
            return;
        };
        self.model_mut(&task.model).waiting.remove(&job);
        if let Some(hand) = task.on.and_then(|on| self.workers.get_mut(&on))
            && hand.life == Life::Leaving(Some(job))
        {
            hand.life = Life::Leaving(None);
        }
    }

    fn tell(&mut self, notice: &Notice) {
        match notice {
            Notice::Stopping { worker, why, name } => {
                if let Some(hand) = self.workers.get_mut(worker) {
                    hand.told.get_or_insert(*why);
                }
                if *why == StopReason::Idle {
                    self.model_mut(&name.model).owed = 0;
                }
            }
            Notice::Evicted {
                name, for_model, ..
            } => {
                self.counts[2] += 1;
                if name.model != *for_model {
                    self.evicting.insert(for_model.clone());
                }
            }
            Notice::Unreclaimed { worker, .. } => {
                if let Some(settling) = self.settling.get_mut(worker) {
                    settling.given_up = true;
                }
            }
            _ => {}
        }
    }

    /// Devices that a task may run on as far as is known.
    pub(crate) fn places_of(&self, task: &Task) -> Vec<ipc_protocol::ids::Device> {
        let wish = task.wish.unwrap_or(DeviceWish::Auto);
        self.places(&self.models[&task.model], wish)
    }
}

/// What a worker is told to leave for because of what it did itself.
pub(crate) fn is_its_fault(why: StopReason) -> bool {
    match why {
        StopReason::Idle
        | StopReason::Evicted
        | StopReason::Operator
        | StopReason::Scaled
        | StopReason::Drain
        | StopReason::Abandoned
        | StopReason::Outdated => false,
        StopReason::NoHello
        | StopReason::Silent
        | StopReason::Stuck
        | StopReason::Starved
        | StopReason::IgnoredCancel
        | StopReason::Protocol => true,
    }
}
