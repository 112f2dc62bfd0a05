//! What events change.

use ipc_protocol::ids::{Device, Generation, JobId, ModelKey};
use ipc_protocol::units::Mebibytes;
use pool::{Drain, Event, Exit, Fault, Footprint, KilledBy, ModelSpec, Moment, Registry, Target};

use super::pace::saw;
use super::{Gone, Life, Model, News, Scene, Settling};

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
        match event {
            Event::RequestArrived { request, user, .. } => {
                self.asked = Some((request.clone(), user.clone()));
            }
            Event::WorkerStarted { worker, pid } => {
                if let Some(hand) = self.workers.get_mut(worker) {
                    hand.pid = Some(*pid);
                }
            }
            Event::WorkerSaidHello { worker } => self.greeted(now, *worker),
            Event::LoadProgressed { worker, permille } => self.loaded(now, *worker, *permille),
            Event::WorkerReady { worker, footprint } => self.ready(now, *worker, *footprint),
            Event::StepFinished { worker, job, step } => self.stepped(now, *worker, *job, *step),
            Event::JobFinished {
                worker,
                job,
                phases,
            } => {
                let began = self.jobs.get(job).map(|task| task.began);
                if self.lets_go(now, *worker, *job) && self.jobs.contains_key(job) {
                    let spent = began.map_or_else(Default::default, |began| now.since(began));
                    self.finished(*worker, phases.encode.min(spent), phases.decode.min(spent));
                }
            }
            Event::JobFailed { worker, job, fault } => {
                if self.lets_go(now, *worker, *job) && matches!(fault, Fault::OutOfMemory { .. }) {
                    let how = "out of memory".to_string();
                    self.lost(now, *worker, *job, how, true);
                }
            }
            Event::WorkerExited {
                worker,
                exit,
                salvaged_step,
            } => {
                self.exited(now, *worker, *exit, *salvaged_step);
            }
            Event::WorkerStartFailed { worker, .. } => {
                let never_was = |life: Life, pid| {
                    pid == None
                        && !matches!(
                            life,
                            Life::Loading | Life::Idle | Life::Busy(_) | Life::Unwinding(_)
                        )
                };
                if self
                    .workers
                    .get(worker)
                    .is_some_and(|hand| never_was(hand.life, hand.pid))
                {
                    self.forget(*worker);
                }
            }
            Event::MemoryReturned { worker } => {
                self.settling.remove(worker);
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
            Event::FootprintMeasured { worker, footprint } => self.weigh(*worker, *footprint),
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
            Event::DrainRequested { drain, .. } => {
                self.draining = true;
                let end = match drain {
                    Drain::Stay => None,
                    Drain::Exit => Some(now + self.settings.drain),
                    Drain::ExitNow => Some(now),
                };
                self.ends = [self.ends, end].into_iter().flatten().min();
            }
            Event::RequestCancelled { .. }
            | Event::ClientGone { .. }
            | Event::LoadFailed { .. }
            | Event::WorkerHeard { .. }
            | Event::WorkerBrokeProtocol { .. }
            | Event::QuarantineListed { .. }
            | Event::QuarantineReleased { .. }
            | Event::DeadlineReached => {}
        }
    }

    fn greeted(&mut self, now: Moment, worker: Generation) {
        if let Some(hand) = self.workers.get_mut(&worker)
            && hand.life == Life::Starting
        {
            hand.life = Life::Loading;
            (hand.since, hand.progressed) = (now, now);
        }
    }

    fn loaded(&mut self, now: Moment, worker: Generation, permille: u16) {
        if let Some(hand) = self.workers.get_mut(&worker)
            && hand.life == Life::Loading
            && permille > hand.permille
        {
            hand.permille = permille.min(1000);
            hand.progressed = now;
            self.news = News::Loaded(worker, permille);
        }
    }

    fn ready(&mut self, now: Moment, worker: Generation, footprint: Option<Footprint>) {
        let Some(hand) = self.workers.get_mut(&worker) else {
            return;
        };
        if hand.life != Life::Loading {
            return;
        }
        hand.life = Life::Idle;
        hand.since = now;
        hand.was_loading = false;
        let (took, key) = (now.since(hand.started), hand.name.model.clone());
        saw(&mut self.model_mut(&key).pace.load, took);
        if let Some(footprint) = footprint {
            self.weigh(worker, footprint);
        }
    }

    /// A worker that holds more than was promised is promised more, where there is room.
    fn weigh(&mut self, worker: Generation, seen: Footprint) {
        let Some(hand) = self.workers.get_mut(&worker) else {
            return;
        };
        hand.footprint = Some(seen);
        let (device, idle, key) = (hand.device, hand.is_idle(), hand.name.model.clone());
        let mut wanted = hand.promised.clone();
        let model = self.model_mut(&key);
        model.worst.host = model.worst.host.max(seen.host);
        model.worst.device = model.worst.device.max(seen.device);
        let mut more = super::sums::Parts::new();
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

    fn stepped(&mut self, now: Moment, worker: Generation, job: JobId, step: u32) {
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
        let took = now.since(hand.progressed) / (step - task.step);
        let first = task.step == task.from_step;
        (task.step, hand.progressed) = (step, now);
        let (key, pixels) = (task.model.clone(), task.size.pixels());
        if !first {
            self.model_mut(&key).pace.saw_step(took, pixels);
        }
        self.news = News::Stepped(job, step);
    }

    /// The worker is done with the job, one way or the other; true where it had it for somebody.
    fn lets_go(&mut self, now: Moment, worker: Generation, job: JobId) -> bool {
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

    fn finished(
        &mut self,
        worker: Generation,
        encode: std::time::Duration,
        decode: std::time::Duration,
    ) {
        let Some(hand) = self.workers.get_mut(&worker) else {
            return;
        };
        hand.jobs_done += 1;
        let key = hand.name.model.clone();
        let model = self.model_mut(&key);
        saw(&mut model.pace.encode, encode);
        saw(&mut model.pace.decode, decode);
        model.raised = 0;
    }

    /// The job waits again, where it does not get its answer now.
    fn lost(&mut self, now: Moment, worker: Generation, job: JobId, how: String, memory: bool) {
        let Some(hand) = self.workers.get(&worker) else {
            return;
        };
        let (name, model) = (hand.name.to_string(), &self.models[&hand.name.model]);
        // Half of the usual picture more, and at least 64 MB.
        let more = Mebibytes((self.activation(model, model.spec.default_size) / 2).max(64));
        if let Some(task) = self.jobs.get_mut(&job) {
            task.losses.push((name, how));
            task.more += if memory { more } else { Mebibytes::ZERO };
        }
        self.waits_again(now, job);
    }

    fn waits_again(&mut self, now: Moment, job: JobId) {
        if let Some(task) = self.jobs.get_mut(&job) {
            (task.on, task.since, task.again) = (None, now, true);
            let key = task.model.clone();
            self.model_mut(&key).waiting.insert(job);
        }
    }

    fn exited(&mut self, now: Moment, worker: Generation, exit: Exit, salvaged: Option<u32>) {
        let Some(hand) = self.workers.get(&worker).cloned() else {
            return;
        };
        let wanted = hand.told.is_some_and(|why| !super::act::is_its_fault(why));
        let device = hand.device;
        if exit == Exit::Code(82)
            && !wanted
            && hand.told.is_none()
            && device != Device::Host
            && let Some(place) = self.devices.get_mut(&device)
        {
            place.lost = true;
        }
        if let Some(job) = hand.job() {
            match wanted {
                true => self.waits_again(now, job),
                false => {
                    let memory = hand.told.is_none() && is_out_of_memory(exit);
                    self.lost(now, worker, job, said(exit), memory);
                }
            }
            if let Some(task) = self.jobs.get_mut(&job) {
                task.step = task.from_step.max(salvaged.unwrap_or(0)).min(task.steps);
            }
        }
        self.forget(worker);
        let part = self.held(&hand, device);
        if self
            .devices
            .get(&device)
            .is_some_and(|place| place.confirms)
            && part.0 > 0
        {
            let until = now + self.settings.patience.settle;
            let settling = Settling {
                device,
                part,
                until,
                given_up: false,
            };
            self.settling.insert(worker, settling);
        }
        let model = self.model_mut(&hand.name.model);
        let raised = model.raised > 0;
        if hand.told.is_none()
            && hand.was_loading
            && is_out_of_memory(exit)
            && exit != Exit::Code(80)
        {
            model.raised = 25;
        }
        let gone = Gone {
            worker,
            hand,
            raised,
        };
        self.news = match wanted {
            true => News::Left(gone),
            false => {
                model.deaths += 1;
                model.owed += 1;
                News::Died(gone)
            }
        };
    }

    fn forget(&mut self, worker: Generation) {
        if let Some(hand) = self.workers.remove(&worker) {
            self.model_mut(&hand.name.model).workers.remove(&worker);
        }
    }

    fn learn(&mut self, registry: &Registry) {
        for model in self.models.values_mut() {
            let new = registry.iter().find(|spec| spec.key == model.spec.key);
            model.offered = new.is_some();
            if new.is_some_and(|new| serves_on(&model.spec, new)) {
                continue;
            }
            let own = |hand: &&mut super::Hand| hand.name.model == model.spec.key;
            for hand in self.workers.values_mut().filter(own) {
                hand.outdated = true;
            }
        }
        for spec in registry.iter() {
            let model = self
                .models
                .entry(spec.key.clone())
                .or_insert_with(|| Model::new(spec));
            if model.spec.pinned != spec.pinned {
                model.pinned = spec.pinned;
            }
            model.spec = spec.clone();
        }
    }

    fn ordered_start(&mut self, target: &Target) {
        for key in self.meant(target) {
            let slot = match target {
                Target::Worker(name) => Some(name.slot),
                Target::All | Target::Model(_) => None,
            };
            let runs = self.live(&key).any(|(_, hand)| {
                hand.is_resident() && slot.is_none_or(|slot| hand.name.slot == slot)
            });
            if !runs {
                self.start_from_now(&key, slot);
            }
        }
    }

    fn ordered_restart(&mut self, target: &Target) {
        let models = self.meant(target);
        let slot = match target {
            Target::Worker(name) => Some(name.slot),
            Target::All | Target::Model(_) => None,
        };
        let mut leaving = std::collections::BTreeSet::new();
        let mut back = Vec::new();
        for key in models {
            let own = self.workers_of(&key);
            let own = own.filter(|(_, hand)| slot.is_none_or(|slot| slot == hand.name.slot));
            let told: Vec<Generation> = own.map(|(id, _)| id).collect();
            if !told.is_empty() || *target != Target::All {
                back.push(key.clone());
            }
            leaving.extend(told);
            self.model_mut(&key).stopped = false;
        }
        if !leaving.is_empty() {
            self.restarts.push(super::Restart {
                models: back,
                slot,
                leaving,
            });
        }
    }

    /// What was restarted is gone, and will stay with this event's end.
    pub(crate) fn comes_back(&self) -> bool {
        let gone = |worker: &Generation| !self.workers.contains_key(worker);
        !self.back.is_empty()
            || self
                .restarts
                .iter()
                .any(|restart| restart.leaving.iter().all(gone))
    }

    /// What was restarted and is gone comes back.
    pub(crate) fn bring_back(&mut self) {
        for restart in std::mem::take(&mut self.restarts) {
            if restart
                .leaving
                .iter()
                .any(|worker| self.workers.contains_key(worker))
            {
                self.restarts.push(restart);
                continue;
            }
            for key in &restart.models {
                self.start_from_now(key, restart.slot);
                self.back.insert(key.clone());
            }
        }
    }

    fn start_from_now(&mut self, key: &ModelKey, slot: Option<u32>) {
        let model = self.model_mut(key);
        model.stopped = false;
        model
            .held
            .retain(|held| slot.is_some_and(|slot| slot != *held));
        model.kept = model.kept.max(slot.map_or(1, |slot| slot + 1));
    }

    fn ordered_stop(&mut self, target: &Target) {
        for key in self.meant(target) {
            let lives = self.live(&key).any(|(_, hand)| match target {
                Target::Worker(name) => hand.name.slot != name.slot,
                Target::All | Target::Model(_) => false,
            });
            let model = self.model_mut(&key);
            if let Target::Worker(name) = target {
                model.held.insert(name.slot);
            }
            model.stopped |= !lives;
            if model.stopped {
                (model.kept, model.owed) = (0, 0);
            }
        }
    }

    fn ordered_scale(&mut self, name: &str, workers: u32) {
        let Some(model) = self.called(name) else {
            return;
        };
        if workers as usize <= self.most(model) {
            let key = model.spec.key.clone();
            let model = self.model_mut(&key);
            model.kept = workers;
            model.stopped &= workers == 0;
        }
    }

    /// The models that an operator means; none where there is no such process.
    pub(crate) fn meant(&self, target: &Target) -> Vec<ModelKey> {
        let (name, slot) = match target {
            Target::All => {
                let offered = self.models.values().filter(|model| model.offered);
                return offered.map(|model| model.spec.key.clone()).collect();
            }
            Target::Model(key) => (key, 0),
            Target::Worker(name) => (&name.model, name.slot),
        };
        let found = self.called(name.as_str());
        let found = found.filter(|model| (slot as usize) < self.most(model));
        found
            .map(|model| model.spec.key.clone())
            .into_iter()
            .collect()
    }

    pub(super) fn model_mut(&mut self, key: &ModelKey) -> &mut Model {
        self.models
            .get_mut(key)
            .expect("every worker and job has a model")
    }
}

/// A worker made for `old` is as good for `new`.
pub(crate) fn serves_on(old: &ModelSpec, new: &ModelSpec) -> bool {
    let what = |spec: &ModelSpec| (spec.family, spec.need, spec.device);
    old.digest == new.digest
        && old.params == new.params
        && what(old) == what(new)
        && new.sizes.max <= old.sizes.max
}

/// What has to be said of a death.
pub(crate) fn said(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("code {code}"),
        Exit::Signal { signal, .. } => format!("signal {signal}"),
    }
}

fn is_out_of_memory(exit: Exit) -> bool {
    match exit {
        Exit::Code(code) => code == 75 || code == 80,
        Exit::Signal { by, .. } => by == KilledBy::KernelOom,
    }
}
