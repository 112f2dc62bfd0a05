//! Applies events to the records.

use std::time::Duration;

use ipc_protocol::failure::FailureKind;
use ipc_protocol::ids::{Device, Generation, JobId, ModelKey};
use ipc_protocol::units::Mebibytes;
use pool::{Drain, Event, JobFault, Moment, Settings};

use super::{AskedRequest, Consequence, ModelRecord, ObservedPool, ProcessState};

/// The pool stops waiting for the kernel's answer about processor time after this long.
const ANSWER: Duration = Duration::from_secs(2);

impl ObservedPool {
    pub(crate) fn event(&mut self, now: Moment, event: &Event) {
        self.consequence = Consequence::None;
        self.back.clear();
        if self.exited {
            return;
        }
        if let Some(process) = event.said_by().and_then(|by| self.workers.get_mut(&by)) {
            process.heard = now;
        }
        self.event_of_worker(now, event);
        self.event_of_people(now, event);
    }

    fn event_of_worker(&mut self, now: Moment, event: &Event) {
        match event {
            Event::WorkerStarted { worker, pid } => {
                if let Some(process) = self.workers.get_mut(worker) {
                    process.pid = Some(*pid);
                }
            }
            Event::LoadFailed { worker, message } => {
                if let Some(process) = self.workers.get_mut(worker) {
                    process.load_failure = Some(message.clone());
                }
            }
            Event::WorkerSaidHello { worker } => self.greeted(now, *worker),
            Event::LoadProgressed { worker, permille } => self.loaded(now, *worker, *permille),
            Event::WorkerReady { worker, footprint } => self.ready(now, *worker, *footprint),
            Event::WorkerWorked { worker, work } => {
                if let Some(process) = self.workers.get_mut(worker)
                    && std::mem::replace(&mut process.work, *work) < *work
                    && matches!(process.state, ProcessState::Loading | ProcessState::Busy(_))
                {
                    process.worked = now;
                }
            }
            Event::CpuMeasured { worker, cpu } => {
                if let Some(process) = self.workers.get_mut(worker)
                    && process.asked.take().is_some()
                {
                    process.samples.push((now, *cpu));
                }
            }
            Event::DeadlineReached => self.stop_waiting_for_samples(now),
            Event::StepFinished { worker, job, step } => self.stepped(now, *worker, *job, *step),
            Event::JobFinished {
                worker,
                job,
                phases,
            } => self.finished(now, *worker, *job, *phases),
            Event::JobFailed { worker, job, fault } => self.gave_up(now, *worker, *job, fault),
            Event::WorkerExited {
                worker,
                exit,
                resume_step,
            } => self.exited(now, *worker, *exit, resume_step.unwrap_or(0)),
            Event::WorkerStartFailed { worker, .. } => self.start_failed(*worker),
            Event::LoopStalled { lasted } => self.stalled(now, *lasted),
            Event::MemoryReturned { worker, left } => {
                if let Some(settling) = self.settling.get_mut(worker) {
                    settling.part = settling.part.min(*left);
                }
                if *left == Mebibytes::ZERO {
                    self.settling.remove(worker);
                }
            }
            Event::FootprintMeasured { worker, footprint } => self.weigh(*worker, *footprint),
            _ => {}
        }
    }

    fn gave_up(&mut self, now: Moment, worker: Generation, job: JobId, fault: &JobFault) {
        if !self.lets_go(now, worker, job) {
            return;
        }
        self.consequence = match fault {
            JobFault::BadRequest { .. } => Consequence::GaveUp(job, FailureKind::BadValue),
            JobFault::NotFinite { .. } | JobFault::Cancelled | JobFault::Other { .. } => {
                Consequence::GaveUp(job, FailureKind::ModelFailed)
            }
            JobFault::OutOfMemory { .. } => {
                self.out_of_memory(now, worker, job);
                Consequence::OutOfMemory(job)
            }
        };
    }

    fn stop_waiting_for_samples(&mut self, now: Moment) {
        let live = self
            .workers
            .values_mut()
            .filter(|process| process.is_live());
        for process in live {
            if process.asked.is_some_and(|at| at + ANSWER <= now) {
                process.asked = None;
                process.samples.push((now, None));
            }
        }
    }

    fn event_of_people(&mut self, now: Moment, event: &Event) {
        match event {
            Event::RequestArrived {
                ticket,
                request,
                user,
                entropy,
            } => {
                self.asked = Some(AskedRequest {
                    ticket: *ticket,
                    request: request.clone(),
                    user: user.clone(),
                    entropy: *entropy,
                });
            }
            Event::RequestCancelled { job, by } => self.cancel_awaiting(*job, by),
            Event::FilesArrived { model } | Event::FilesFailed { model, .. } => {
                self.fetching.remove(model);
            }
            Event::MemoryMeasured {
                device,
                total,
                measured,
                foreign,
            } => {
                if let Some(record) = self.devices.get_mut(device) {
                    record.total = *total;
                    (record.measured, record.foreign) = (Some(*measured), Some(*foreign));
                    (record.lost, record.aged) = (false, false);
                }
            }
            Event::MeasurementAged { device } => {
                if let Some(record) = self.devices.get_mut(device)
                    && *device != Device::Host
                {
                    record.aged = true;
                }
            }
            Event::DeviceLost { device, .. } => {
                if let Some(record) = self.devices.get_mut(device) {
                    record.lost = *device != Device::Host;
                }
            }
            Event::DeadlineReached => {
                for record in self.devices.values_mut() {
                    record.rests.take_if(|until| *until <= now);
                }
            }
            Event::SettingsChanged { settings } => {
                self.settings = (**settings).clone();
                self.lift_stops();
            }
            Event::ModelsChanged { registry } => self.learn(registry),
            Event::StartRequested { target, .. } => self.ordered_start(target),
            Event::StopRequested { target, .. } => self.ordered_stop(target),
            Event::RestartRequested { target, .. } => self.ordered_restart(target),
            Event::PinChanged { model, pinned, .. } => {
                if let Some(key) = self.called(model).map(|model| model.spec.key.clone()) {
                    self.model_mut(&key).pinned = *pinned;
                }
            }
            Event::EvictRequested { model, .. } => {
                if let Some(key) = self.called(model).map(|model| model.spec.key.clone()) {
                    self.model_mut(&key).kept = 0;
                }
            }
            Event::Scaled { model, workers, .. } => self.ordered_scale(model, *workers),
            Event::DrainRequested { drain, .. } => self.drain(now, *drain),
            _ => {}
        }
    }

    fn drain(&mut self, now: Moment, drain: Drain) {
        self.draining = match drain {
            Drain::Stay | Drain::Exit | Drain::ExitNow => true,
            // What was told to exit does.
            Drain::Undo => self.draining && self.ends.is_some(),
        };
        let end = end_of(drain, now, &self.settings);
        self.ends = [self.ends, end].into_iter().flatten().min();
    }

    pub(super) fn model_mut(&mut self, key: &ModelKey) -> &mut ModelRecord {
        self.models
            .get_mut(key)
            .expect("every worker and job has a model")
    }
}

/// When the jobs that are left are cancelled, if ever.
fn end_of(drain: Drain, now: Moment, settings: &Settings) -> Option<Moment> {
    match drain {
        Drain::Stay | Drain::Undo => None,
        Drain::Exit => Some(now + settings.drain),
        Drain::ExitNow => Some(now),
    }
}
