//! Applies workers' reports and exits to the records.

use std::time::Duration;

use ipc_protocol::ids::{Device, Generation, JobId, ModelKey};
use ipc_protocol::units::Mebibytes;
use pool::{Exit, Footprint, Moment, Phases};

use super::ends::{WorkerEnd, words};
use super::pace::saw;
use super::records::WorkerLoss;
use super::{
    Consequence, DeviceRecord, EndedProcess, ObservedPool, ProcessRecord, ProcessState,
    SettlingMemory, span,
};

impl ObservedPool {
    /// The driver could not hear anything for a while, so no worker was silent or without progress.
    pub(super) fn stalled(&mut self, now: Moment, lasted: Duration) {
        let later = |moment: Moment| (moment + lasted).min(now);
        for settling in self.settling.values_mut().filter(|part| !part.given_up) {
            settling.until = settling.until + lasted;
        }
        for process in self.workers.values_mut() {
            process.heard = later(process.heard);
            if !matches!(process.state, ProcessState::Leaving(_)) {
                process.progressed = later(process.progressed);
            }
            if process.state == ProcessState::Starting {
                process.started = later(process.started);
            }
            if matches!(
                process.state,
                ProcessState::Starting | ProcessState::Loading | ProcessState::Busy(_)
            ) {
                process.shows_work(now);
            }
        }
    }

    pub(super) fn greeted(&mut self, now: Moment, worker: Generation) {
        if let Some(process) = self.workers.get_mut(&worker)
            && process.state == ProcessState::Starting
        {
            process.state = ProcessState::Loading;
            (process.since, process.progressed) = (now, now);
            process.shows_work(now);
        }
    }

    pub(super) fn loaded(&mut self, now: Moment, worker: Generation, permille: u16) {
        if let Some(process) = self.workers.get_mut(&worker)
            && process.state == ProcessState::Loading
            && permille > process.permille
        {
            process.permille = permille.min(1000);
            process.progressed = now;
            process.shows_work(now);
            self.consequence = Consequence::Loaded(worker, permille);
        }
    }

    pub(super) fn ready(&mut self, now: Moment, worker: Generation, footprint: Option<Footprint>) {
        let Some(process) = self.workers.get_mut(&worker) else {
            return;
        };
        if process.state != ProcessState::Loading {
            return;
        }
        process.state = ProcessState::Idle;
        process.since = now;
        process.was_loading = false;
        let (took, key) = (span(now, process.started), process.name.model.clone());
        saw(&mut self.model_mut(&key).pace.load, took);
        if let Some(footprint) = footprint {
            self.weigh(worker, footprint);
        }
    }

    /// Raises the reservation of a worker that holds more than was reserved, as far as there is room.
    pub(super) fn weigh(&mut self, worker: Generation, seen: Footprint) {
        let Some(process) = self.workers.get_mut(&worker) else {
            return;
        };
        process.footprint = Some(seen);
        let (device, key) = (process.device, process.name.model.clone());
        if !process.stretched {
            let model = self.model_mut(&key);
            model.worst.host = model.worst.host.max(seen.host);
            model.worst.device = model.worst.device.max(seen.device);
        }
        let mut places = vec![(Device::Host, seen.host)];
        match device {
            Device::Host => places[0].1 = seen.host + seen.device,
            Device::Cuda(_) => places.push((device, seen.device)),
        }
        let mut grown = Vec::new();
        for (at, holds) in places {
            let reserved = self.held(&self.workers[&worker], at);
            let beyond = holds.saturating_sub(reserved);
            let more = beyond.min(self.free(at));
            grown.push((at, more));
            let taken = self.reserved(at) + self.settling_on(at, Some(true)) + beyond;
            let limit = self
                .devices
                .get(&at)
                .map_or(Mebibytes::ZERO, |record| record.limit);
            if at == device && beyond > more && taken > limit {
                self.consequence = Consequence::Overflowed(worker, beyond - more);
            }
        }
        let Some(process) = self.workers.get_mut(&worker) else {
            return;
        };
        for (at, more) in grown
            .into_iter()
            .filter(|(_, more)| *more > Mebibytes::ZERO)
        {
            *process.promised.entry(at).or_default() += more;
            if at == device {
                process.growth += more;
            }
        }
    }

    pub(super) fn stepped(&mut self, now: Moment, worker: Generation, job: JobId, step: u32) {
        let process = self.workers.get_mut(&worker);
        let Some(process) = process.filter(|process| process.job() == Some(job)) else {
            return;
        };
        let Some(record) = self.jobs.get_mut(&job) else {
            return;
        };
        if step > record.parameters.steps {
            self.consequence = Consequence::ImpossibleStep(worker);
            return;
        }
        if step <= record.step {
            return;
        }
        let took = span(now, process.progressed) / (step - record.step);
        let first = record.step == record.resume_step;
        (record.step, process.progressed) = (step, now);
        process.shows_work(now);
        let (key, pixels) = (record.model.clone(), record.parameters.size.pixels());
        if !first {
            self.model_mut(&key).pace.saw_step(took, pixels);
        }
        self.consequence = Consequence::Stepped(job, step);
    }

    /// The worker is done with the job. Returns whether the job still wants an answer.
    pub(super) fn lets_go(&mut self, now: Moment, worker: Generation, job: JobId) -> bool {
        let Some(process) = self.workers.get_mut(&worker) else {
            return false;
        };
        match process.state {
            ProcessState::Busy(own) | ProcessState::Unwinding(own) if own == job => {
                let wanted = process.job() == Some(job);
                (process.state, process.since) = (ProcessState::Idle, now);
                process.extra = Mebibytes::ZERO;
                wanted
            }
            ProcessState::Leaving(Some(own)) if own == job => {
                process.state = ProcessState::Leaving(None);
                true
            }
            ProcessState::Starting
            | ProcessState::Loading
            | ProcessState::Idle
            | ProcessState::Busy(_)
            | ProcessState::Unwinding(_)
            | ProcessState::Leaving(_) => false,
        }
    }

    pub(super) fn finished(&mut self, now: Moment, worker: Generation, job: JobId, phases: Phases) {
        let began = self.jobs.get(&job).map(|record| record.began);
        if !self.lets_go(now, worker, job) {
            return;
        }
        self.consequence = Consequence::Finished(job);
        let (Some(began), Some(process)) = (began, self.workers.get_mut(&worker)) else {
            return;
        };
        process.jobs_done += 1;
        let key = process.name.model.clone();
        if let Some(device) = self.devices.get_mut(&process.device) {
            device.struck.clear();
        }
        let model = self.model_mut(&key);
        // A worker's own figures count as far as they can be true.
        let spent = span(now, began);
        saw(&mut model.pace.encode, phases.encode.min(spent));
        saw(&mut model.pace.decode, phases.decode.min(spent));
        model.raised = 0;
    }

    /// No process could be made. If there is one, only its exit ends the worker.
    pub(super) fn start_failed(&mut self, worker: Generation) {
        let without_process = |process: &ProcessRecord| match process.state {
            ProcessState::Starting | ProcessState::Leaving(_) => process.pid.is_none(),
            ProcessState::Loading
            | ProcessState::Idle
            | ProcessState::Busy(_)
            | ProcessState::Unwinding(_) => false,
        };
        if self.workers.get(&worker).is_some_and(without_process) {
            self.forget(worker);
        }
    }

    /// The worker gave the job up for lack of memory. The job waits again.
    pub(super) fn out_of_memory(&mut self, now: Moment, worker: Generation, job: JobId) {
        let Some(process) = self.workers.get(&worker) else {
            return;
        };
        let loss = WorkerLoss {
            worker: process.name.to_string(),
            how: "out of memory".to_string(),
            accuses: false,
            step: 0,
        };
        let more = self.more_room(&process.name.model);
        if let Some(record) = self.jobs.get_mut(&job) {
            record.more = more;
            record.out_of_memory += 1;
        }
        self.waits_again(now, job, loss, 0);
    }

    /// Half of a usual picture's memory, and at least 64 MB.
    fn more_room(&self, key: &ModelKey) -> Mebibytes {
        let model = &self.models[key];
        let usual = |device| self.activation(model, device, model.spec.default_size);
        Mebibytes((usual(Device::Host).max(usual(Device::Cuda(0))) / 2).max(64))
    }

    fn waits_again(&mut self, now: Moment, job: JobId, loss: WorkerLoss, salvaged: u32) {
        let Some(record) = self.jobs.get_mut(&job) else {
            return;
        };
        if record.step > record.furthest {
            (record.furthest, record.cleared) = (record.step, record.losses.len());
        }
        record.losses.push(WorkerLoss {
            step: record.step,
            ..loss
        });
        match salvaged > record.resume_step {
            true => (record.fruitless, record.fruitless_since) = (0, None),
            false => {
                record.fruitless += 1;
                record.fruitless_since.get_or_insert(now);
            }
        }
        (record.on, record.since, record.again) = (None, now, true);
        // Steps that were not salvaged are drawn again.
        record.step = record
            .resume_step
            .max(salvaged)
            .min(record.parameters.steps);
        let key = record.model.clone();
        self.model_mut(&key).waiting.insert(job);
    }

    pub(super) fn exited(&mut self, now: Moment, worker: Generation, exit: Exit, salvaged: u32) {
        let Some(process) = self.workers.get(&worker).cloned() else {
            return;
        };
        let end = WorkerEnd::of(process.stop_reason, exit);
        let rest = now + self.settings.breaker_open;
        if matches!(exit, Exit::Code(81 | 82))
            && end == WorkerEnd::Outside
            && process.device != Device::Host
            && let Some(device) = self.devices.get_mut(&process.device)
        {
            device.lost |= exit == Exit::Code(82);
            device.struck.insert(process.name.model.clone());
            if device.struck.len() > 1 {
                device.rests.get_or_insert(rest);
            }
        }
        if let Some(job) = process.job() {
            self.lost(now, &process, job, (end, exit), salvaged);
        }
        self.forget(worker);
        self.counts.exits += 1;
        self.settles(now, worker, &process);
        let model = self.model_mut(&process.name.model);
        let raised = model.raised > 0;
        if process.was_loading && end.raises_need() {
            model.raised = 25;
        }
        let wanted = end == WorkerEnd::Wanted;
        model.deaths += u64::from(!wanted);
        model.owed += u32::from(!wanted);
        self.consequence = Consequence::Ended(EndedProcess {
            worker,
            process,
            end,
            raised,
        });
    }

    /// The worker ended with the job. The job waits again.
    fn lost(
        &mut self,
        now: Moment,
        process: &ProcessRecord,
        job: JobId,
        (end, exit): (WorkerEnd, Exit),
        salvaged: u32,
    ) {
        let more = self.more_room(&process.name.model);
        if let Some(record) = self.jobs.get_mut(&job) {
            let resumes = salvaged > record.resume_step;
            let before = if resumes { 0 } else { record.silences };
            record.silences = before + u32::from(end == WorkerEnd::Silent);
            record.out_of_memory += u32::from(end.is_out_of_memory());
            if end.is_out_of_memory() || end.raises_need() {
                record.more = more;
            }
        }
        let loss = WorkerLoss {
            worker: process.name.to_string(),
            how: words(exit),
            accuses: end.accuses_job(),
            step: 0,
        };
        self.waits_again(now, job, loss, salvaged);
    }

    /// Memory of a device whose driver confirms is not free before the driver does.
    fn settles(&mut self, now: Moment, worker: Generation, process: &ProcessRecord) {
        let (device, part) = (process.device, self.held(process, process.device));
        let confirms = |device: &DeviceRecord| device.confirms;
        if self.devices.get(&device).is_some_and(confirms) && part > Mebibytes::ZERO {
            let settling = SettlingMemory {
                device,
                part,
                until: now + self.settings.patience.settle,
                given_up: false,
            };
            self.settling.insert(worker, settling);
        }
    }

    fn forget(&mut self, worker: Generation) {
        if let Some(process) = self.workers.remove(&worker) {
            self.model_mut(&process.name.model).workers.remove(&worker);
        }
    }
}
