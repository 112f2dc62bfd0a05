//! What events change: which file answers which.

use ipc_protocol::ids::ModelKey;
use std::time::Duration;

use pool::{Drain, Event, JobFault, Moment};

use super::{Life, Model, News, Scene};
use crate::oracle::{drains, end_of};

/// The kernel says in this time how long a worker had the processor, or does not.
const ANSWER: Duration = Duration::from_secs(2);

impl Scene {
    pub(crate) fn hear(&mut self, now: Moment, event: &Event) {
        self.news = News::Nothing;
        self.back.clear();
        if self.gone {
            return;
        }
        if let Some(hand) = event.said_by().and_then(|by| self.workers.get_mut(&by)) {
            hand.heard = now;
        }
        self.hear_worker(now, event);
        self.hear_people(now, event);
    }

    fn hear_worker(&mut self, now: Moment, event: &Event) {
        match event {
            Event::WorkerStarted { worker, pid } => {
                if let Some(hand) = self.workers.get_mut(worker) {
                    hand.pid = Some(*pid);
                }
            }
            Event::LoadFailed { worker, message } => {
                if let Some(hand) = self.workers.get_mut(worker) {
                    hand.said = Some(message.clone());
                }
            }
            Event::WorkerSaidHello { worker } => self.greeted(now, *worker),
            Event::LoadProgressed { worker, permille } => self.loaded(now, *worker, *permille),
            Event::WorkerReady { worker, footprint } => self.ready(now, *worker, *footprint),
            Event::WorkerWorked { worker, work } => {
                if let Some(hand) = self.workers.get_mut(worker)
                    && std::mem::replace(&mut hand.work, *work) < *work
                    && matches!(hand.life, Life::Loading | Life::Busy(_))
                {
                    hand.shows_work(now);
                }
            }
            Event::CpuMeasured { worker, cpu } => {
                if let Some(hand) = self.workers.get_mut(worker)
                    && hand.asked.take().is_some()
                {
                    hand.samples.push((now, *cpu));
                }
            }
            Event::DeadlineReached => self.gives_up_asking(now),
            Event::StepFinished { worker, job, step } => self.stepped(now, *worker, *job, *step),
            Event::JobFinished {
                worker,
                job,
                phases,
            } => self.finished(now, *worker, *job, *phases),
            Event::JobFailed { worker, job, fault } => {
                let known = self.lets_go(now, *worker, *job);
                if known && matches!(fault, JobFault::OutOfMemory { .. }) {
                    let how = "out of memory".to_string();
                    self.lost(now, *worker, *job, how, (true, false));
                }
            }
            Event::WorkerExited {
                worker,
                exit,
                resume_step,
            } => self.exited(now, *worker, *exit, *resume_step),
            Event::WorkerStartFailed { worker, .. } => self.never_was(*worker),
            Event::LoopStalled { lasted } => self.stalled(now, *lasted),
            Event::MemoryReturned { worker } => {
                self.settling.remove(worker);
            }
            Event::FootprintMeasured { worker, footprint } => self.weigh(*worker, *footprint),
            _ => {}
        }
    }

    /// What the kernel did not say in time is not waited for.
    fn gives_up_asking(&mut self, now: Moment) {
        for hand in self.workers.values_mut().filter(|hand| hand.is_live()) {
            if hand.asked.is_some_and(|at| at + ANSWER <= now) {
                hand.asked = None;
                hand.samples.push((now, None));
            }
        }
    }

    fn hear_people(&mut self, now: Moment, event: &Event) {
        match event {
            Event::RequestArrived { request, user, .. } => {
                self.asked = Some((request.clone(), user.clone()));
            }
            Event::MemoryMeasured {
                device,
                total,
                measured,
                foreign,
            } => {
                if let Some(place) = self.devices.get_mut(device) {
                    place.total = *total;
                    (place.measured, place.foreign) = (Some(*measured), Some(*foreign));
                    place.lost = false;
                }
            }
            Event::SettingsChanged { settings } => self.settings = (**settings).clone(),
            Event::ModelsChanged { registry } => self.learn(registry),
            Event::StartRequested { target, .. } => self.ordered_start(target),
            Event::StopRequested { target, .. } => self.ordered_stop(target),
            Event::RestartRequested { target, .. } => self.ordered_restart(target),
            Event::PinChanged { model, pinned, .. } => {
                if let Some(key) = self.called(model).map(|model| model.spec.key.clone()) {
                    self.model_mut(&key).pinned = *pinned;
                }
            }
            Event::Scaled { model, workers, .. } => self.ordered_scale(model, *workers),
            Event::DrainRequested { drain, .. } => self.winds_down(now, *drain),
            _ => {}
        }
    }

    fn winds_down(&mut self, now: Moment, drain: Drain) {
        self.draining = drains(self.draining, drain, self.ends);
        let end = end_of(drain, now, &self.settings);
        self.ends = [self.ends, end].into_iter().flatten().min();
    }

    pub(super) fn model_mut(&mut self, key: &ModelKey) -> &mut Model {
        self.models
            .get_mut(key)
            .expect("every worker and job has a model")
    }
}
