//! What workers say and how they end.

use std::time::Duration;

use super::span;
use ipc_protocol::ids::{Device, Generation, JobId};
use ipc_protocol::units::Mebibytes;
use pool::{Exit, Footprint, KilledBy, Moment, Phases, StopReason};

use super::act::is_its_fault;
use super::pace::saw;
use super::sums::Parts;
use super::{Gone, Hand, Life, News, Scene, Settling};

impl Scene {
    /// Nobody could be heard for a while, so nobody was silent or without progress.
    pub(super) fn stalled(&mut self, now: Moment, lasted: Duration) {
        let later = |moment: Moment| (moment + lasted).min(now);
        for settling in self.settling.values_mut().filter(|part| !part.given_up) {
            settling.until = settling.until + lasted;
        }
        for hand in self.workers.values_mut() {
            hand.heard = later(hand.heard);
            if !matches!(hand.life, Life::Leaving(_)) {
                hand.progressed = later(hand.progressed);
            }
            if hand.life == Life::Starting {
                hand.started = later(hand.started);
            }
            if matches!(hand.life, Life::Loading | Life::Busy(_)) {
                hand.shows_work(now);
            }
        }
    }

    pub(super) fn greeted(&mut self, now: Moment, worker: Generation) {
        if let Some(hand) = self.workers.get_mut(&worker)
            && hand.life == Life::Starting
        {
            hand.life = Life::Loading;
            (hand.since, hand.progressed) = (now, now);
            hand.shows_work(now);
        }
    }

    pub(super) fn loaded(&mut self, now: Moment, worker: Generation, permille: u16) {
        if let Some(hand) = self.workers.get_mut(&worker)
            && hand.life == Life::Loading
            && permille > hand.permille
        {
            hand.permille = permille.min(1000);
            hand.progressed = now;
            hand.shows_work(now);
            self.news = News::Loaded(worker, permille);
        }
    }

    pub(super) fn ready(&mut self, now: Moment, worker: Generation, footprint: Option<Footprint>) {
        let Some(hand) = self.workers.get_mut(&worker) else {
            return;
        };
        if hand.life != Life::Loading {
            return;
        }
        hand.life = Life::Idle;
        hand.since = now;
        hand.was_loading = false;
        let (took, key) = (span(now, hand.started), hand.name.model.clone());
        saw(&mut self.model_mut(&key).pace.load, took);
        if let Some(footprint) = footprint {
            self.weigh(worker, footprint);
        }
    }

    /// A worker that holds more than was promised is promised more, where there is room.
    pub(super) fn weigh(&mut self, worker: Generation, seen: Footprint) {
        let Some(hand) = self.workers.get_mut(&worker) else {
            return;
        };
        hand.footprint = Some(seen);
        let (device, idle, key) = (hand.device, hand.is_idle(), hand.name.model.clone());
        let (mut wanted, stretched) = (hand.promised.clone(), hand.stretched);
        if !stretched {
            let model = self.model_mut(&key);
            model.worst.host = model.worst.host.max(seen.host);
            model.worst.device = model.worst.device.max(seen.device);
        }
        let mut more = Parts::new();
        for (at, part) in &mut wanted {
            let holds = match (device, *at) {
                (Device::Host, _) => seen.host + seen.device,
                (Device::Cuda(_), Device::Host) => seen.host,
                (Device::Cuda(_), Device::Cuda(_)) => seen.device,
            };
            more.insert(*at, holds.saturating_sub(*part));
            *part = holds.max(*part);
        }
        if idle
            && self.has_room(&more)
            && let Some(hand) = self.workers.get_mut(&worker)
        {
            hand.promised = wanted;
        }
    }

    pub(super) fn stepped(&mut self, now: Moment, worker: Generation, job: JobId, step: u32) {
        let Some(hand) = self
            .workers
            .get_mut(&worker)
            .filter(|h| h.job() == Some(job))
        else {
            return;
        };
        let Some(task) = self.jobs.get_mut(&job) else {
            return;
        };
        if step > task.steps {
            self.news = News::Impossible(worker);
            return;
        }
        if step <= task.step {
            return;
        }
        let took = span(now, hand.progressed) / (step - task.step);
        let first = task.step == task.resume_step;
        (task.step, hand.progressed) = (step, now);
        hand.shows_work(now);
        let (key, pixels) = (task.model.clone(), task.size.pixels());
        if !first {
            self.model_mut(&key).pace.saw_step(took, pixels);
        }
        self.news = News::Stepped(job, step);
    }

    /// The worker is done with the job, one way or the other; true where it had it for somebody.
    pub(super) fn lets_go(&mut self, now: Moment, worker: Generation, job: JobId) -> bool {
        let Some(hand) = self.workers.get_mut(&worker) else {
            return false;
        };
        match hand.life {
            Life::Busy(own) | Life::Unwinding(own) if own == job => {
                let wanted = hand.job() == Some(job);
                (hand.life, hand.since) = (Life::Idle, now);
                hand.extra = Default::default();
                wanted
            }
            Life::Leaving(Some(own)) if own == job => {
                hand.life = Life::Leaving(None);
                true
            }
            Life::Starting
            | Life::Loading
            | Life::Idle
            | Life::Busy(_)
            | Life::Unwinding(_)
            | Life::Leaving(_) => false,
        }
    }

    pub(super) fn finished(&mut self, now: Moment, worker: Generation, job: JobId, phases: Phases) {
        let began = self.jobs.get(&job).map(|task| task.began);
        if !self.lets_go(now, worker, job) {
            return;
        }
        let (Some(began), Some(hand)) = (began, self.workers.get_mut(&worker)) else {
            return;
        };
        hand.jobs_done += 1;
        let key = hand.name.model.clone();
        let model = self.model_mut(&key);
        // The worker's own figures are taken as far as they can be true.
        let spent = span(now, began);
        saw(&mut model.pace.encode, phases.encode.min(spent));
        saw(&mut model.pace.decode, phases.decode.min(spent));
        model.raised = 0;
    }

    /// Where there is a process, only its exit ends it.
    pub(super) fn never_was(&mut self, worker: Generation) {
        let silent = |hand: &Hand| match hand.life {
            Life::Starting | Life::Leaving(_) => hand.pid.is_none(),
            Life::Loading | Life::Idle | Life::Busy(_) | Life::Unwinding(_) => false,
        };
        if self.workers.get(&worker).is_some_and(silent) {
            self.forget(worker);
        }
    }

    /// The job waits again, where it does not get its answer now.
    pub(super) fn lost(
        &mut self,
        now: Moment,
        worker: Generation,
        job: JobId,
        how: String,
        (memory, accused): (bool, bool),
    ) {
        let Some(hand) = self.workers.get(&worker) else {
            return;
        };
        let (name, model) = (hand.name.to_string(), &self.models[&hand.name.model]);
        // Half of the usual picture more, and at least 64 MB.
        let more = Mebibytes((self.activation(model, model.spec.default_size) / 2).max(64));
        if let Some(task) = self.jobs.get_mut(&job) {
            task.losses.push((name, how, accused));
            if memory {
                task.more = more;
            }
        }
        self.waits_again(now, job);
    }

    fn waits_again(&mut self, now: Moment, job: JobId) {
        if let Some(task) = self.jobs.get_mut(&job) {
            (task.on, task.since, task.again) = (None, now, true);
            // What was not taken out of its worker is drawn again.
            task.step = task.resume_step;
            let key = task.model.clone();
            self.model_mut(&key).waiting.insert(job);
        }
    }

    pub(super) fn exited(
        &mut self,
        now: Moment,
        worker: Generation,
        exit: Exit,
        salvaged: Option<u32>,
    ) {
        let Some(hand) = self.workers.get(&worker).cloned() else {
            return;
        };
        if exit == Exit::Code(82)
            && hand.told.is_none()
            && hand.device != Device::Host
            && let Some(place) = self.devices.get_mut(&hand.device)
        {
            place.lost = true;
        }
        let wanted = hand.told.is_some_and(|why| !is_its_fault(why));
        if let Some(job) = hand.job() {
            self.took_with_it(now, worker, job, exit, wanted);
            if let Some(task) = self.jobs.get_mut(&job) {
                task.step = task.resume_step.max(salvaged.unwrap_or(0)).min(task.steps);
            }
        }
        self.forget(worker);
        self.counts[1] += 1;
        self.settles(now, worker, &hand);
        let model = self.model_mut(&hand.name.model);
        let raised = model.raised > 0;
        if hand.told.is_none()
            && hand.was_loading
            && is_out_of_memory(exit)
            && exit != Exit::Code(80)
        {
            model.raised = 25;
        }
        model.deaths += u64::from(!wanted);
        model.owed += u32::from(!wanted);
        let gone = Gone {
            worker,
            hand,
            raised,
        };
        self.news = match wanted {
            true => News::Left(gone),
            false => News::Died(gone),
        };
    }

    fn took_with_it(
        &mut self,
        now: Moment,
        worker: Generation,
        job: JobId,
        exit: Exit,
        wanted: bool,
    ) {
        let told = self.workers.get(&worker).and_then(|hand| hand.told);
        let memory = told.is_none() && is_out_of_memory(exit);
        let accused = !wanted && is_accused(told, exit);
        self.lost(now, worker, job, said(exit), (memory, accused));
    }

    /// Where the device's driver says when memory is free, it is not before.
    fn settles(&mut self, now: Moment, worker: Generation, hand: &Hand) {
        let (device, part) = (hand.device, self.held(hand, hand.device));
        let confirms = |place: &super::Place| place.confirms;
        if self.devices.get(&device).is_some_and(confirms) && part > Mebibytes::ZERO {
            let settling = Settling {
                device,
                part,
                until: now + self.settings.patience.settle,
                given_up: false,
            };
            self.settling.insert(worker, settling);
        }
    }

    fn forget(&mut self, worker: Generation) {
        if let Some(hand) = self.workers.remove(&worker) {
            self.model_mut(&hand.name.model).workers.remove(&worker);
        }
    }
}

/// What has to be said of a death.
pub(super) fn said(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("code {code}"),
        Exit::Signal { signal, .. } => format!("signal {signal}"),
    }
}

/// The end is one of the worker's own making, which may be its job's.
fn is_accused(told: Option<StopReason>, exit: Exit) -> bool {
    match (told, exit) {
        (Some(why), _) => !matches!(why, StopReason::Silent | StopReason::Starved),
        (None, Exit::Code(code)) => ![66, 75, 78, 80, 81, 82, 83].contains(&code),
        (None, Exit::Signal { signal, by }) => {
            by == KilledBy::Other && ![1, 2, 3, 7, 9, 15].contains(&signal)
        }
    }
}

fn is_out_of_memory(exit: Exit) -> bool {
    match exit {
        Exit::Code(code) => code == 75 || code == 80,
        Exit::Signal { by, .. } => matches!(by, KilledBy::KernelOom | KilledBy::AllocationFailed),
    }
}
