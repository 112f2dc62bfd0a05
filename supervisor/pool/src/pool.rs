//! The pool: takes one event after the other, and answers questions about its state.

use ipc_protocol::failure::Failure;
use ipc_protocol::ids::{Generation, JobId, ModelKey, WorkerName};
use ipc_protocol::status::WorkerStatus;
use ipc_protocol::units::PictureSize;

use crate::events::{deadline, device, exit, files, operator, registry, request, restored, worker};
use crate::questions::deadline::next as next_deadline;
use crate::questions::explain::{self, Plan};
use crate::questions::readiness;
use crate::questions::snapshot::{self, Snapshot};
use crate::questions::standing;
use crate::questions::wants;
use crate::settle::settle;
use crate::state::State;
use crate::state::budget::DeviceLimit;
use crate::state::phase::Phase;
use crate::steps::end_worker::break_protocol;
use crate::words::action::Action;
use crate::words::event::Event;
use crate::words::moment::Moment;
use crate::words::new_request::NewRequest;
use crate::words::registry::Registry;
use crate::words::settings::Settings;
use crate::words::turn::Turn;

/// All workers and the decisions about them.
#[derive(Debug)]
pub struct Pool {
    state: State,
}

impl Pool {
    /// A pool without workers on `devices`.
    pub fn new(settings: Settings, registry: Registry, devices: Vec<DeviceLimit>) -> Self {
        let state = State::new(settings, &registry, devices);
        Self { state }
    }

    /// Takes one event at time `now` and appends the resulting actions to `actions`.
    ///
    /// Time never runs backwards: a `now` before the last one counts as the last one.
    pub fn handle(&mut self, now: Moment, event: Event, actions: &mut Vec<Action>) {
        let now = self.state.advance(now);
        if matches!(self.state.phase(), Phase::Gone { .. }) {
            return;
        }
        let turn = &mut Turn::new(now, actions);
        if settles(&event) {
            take(&mut self.state, turn, event);
            settle(&mut self.state, turn);
        } else {
            take(&mut self.state, turn, event);
        }
    }

    /// When the pool next wants `Event::DeadlineReached`; `None` while there is no deadline.
    ///
    /// It may lie before the last event's time: then it is due now.
    pub fn next_deadline(&self) -> Option<Moment> {
        next_deadline(&self.state)
    }

    /// Everything at one moment, so that its sums agree.
    pub fn snapshot(&self, now: Moment) -> Snapshot {
        snapshot::snapshot(&self.state, now)
    }

    /// The status of one worker; `None` if it is unknown or reaped.
    pub fn worker(&self, now: Moment, worker: Generation) -> Option<WorkerStatus> {
        snapshot::worker(&self.state, now, worker)
    }

    /// Why a job waits, in a sentence with numbers; `None` for an unknown or answered job.
    pub fn explain(&self, now: Moment, job: JobId) -> Option<String> {
        explain::explain(&self.state, now, job)
    }

    /// Returns the memory of a job of `model` at `size`, and whether it could run.
    ///
    /// # Errors
    /// There is no such model, or it has no such size.
    pub fn plan(&self, model: &str, size: Option<PictureSize>) -> Result<Plan, Failure> {
        explain::plan(&self.state, model, size)
    }

    /// Something waits that a measurement of the devices could help: a job, or a worker that is wanted.
    pub fn waits(&self) -> bool {
        self.state.jobs().waiting() > 0 || !wants::all(&self.state, self.state.now()).is_empty()
    }

    /// Returns the key of a model, or of the default model, if one picture at its defaults would be accepted now.
    ///
    /// # Errors
    /// The refusal that a client would get, or that the model's files are not here.
    pub fn can_serve(&self, now: Moment, model: Option<&str>) -> Result<ModelKey, Failure> {
        readiness::can_serve(&self.state, now, model)
    }

    /// The model has a worker that was not told to exit.
    pub fn has_workers(&self, key: &ModelKey) -> bool {
        let mut ids = self.state.model_ids();
        let found = ids.find(|&id| self.state.model(id).spec().key == *key);
        found.is_some_and(|id| self.state.fleet().has_live(id))
    }

    /// The model may have a worker of this name: `start` takes it.
    pub fn has_slot(&self, name: &WorkerName) -> bool {
        let found = self.state.find_model(name.model.as_str());
        found.is_some_and(|model| standing::has_slot(&self.state, model, name.slot))
    }

    /// The worker exits as soon as it has no job: it is being stopped, or its model changed.
    pub fn is_leaving(&self, worker: Generation) -> bool {
        let worker = self.state.fleet().get(worker);
        worker.is_some_and(|worker| !worker.is_live() || worker.is_outdated())
    }

    /// The model is no longer offered, and still has jobs or workers.
    pub fn is_model_leaving(&self, key: &ModelKey) -> bool {
        let mut ids = self.state.model_ids();
        let found = ids.find(|&id| self.state.model(id).spec().key == *key);
        found.is_some_and(|id| standing::is_leaving(&self.state, id))
    }

    /// Memory promised to all workers on all devices, in mebibytes.
    pub fn total_memory_mb(&self) -> u64 {
        self.state.budget().total_reserved().0
    }

    #[cfg(test)]
    pub(crate) fn state(&self) -> &State {
        &self.state
    }
}

/// Whether an event may change what can run. Messages about progress change nothing of that kind, and come by the
/// thousand.
fn settles(event: &Event) -> bool {
    match event {
        Event::RequestArrived { .. }
        | Event::JobIdsUsed { .. }
        | Event::JobRestored { .. }
        | Event::QuarantineRestored { .. }
        | Event::NeedRestored { .. }
        | Event::FilesArrived { .. }
        | Event::FilesFailed { .. }
        | Event::WorkerStarted { .. }
        | Event::WorkerSaidHello { .. }
        | Event::LoadProgressed { .. }
        | Event::LoadFailed { .. }
        | Event::WorkerHeard { .. }
        | Event::WorkerWorked { .. }
        | Event::StepFinished { .. }
        | Event::FootprintMeasured { .. }
        | Event::QuarantineListed { .. }
        | Event::LoopStalled { .. } => false,
        Event::RequestCancelled { .. }
        | Event::ClientGone { .. }
        | Event::WorkerStartFailed { .. }
        | Event::WorkerReady { .. }
        | Event::JobFinished { .. }
        | Event::JobFailed { .. }
        | Event::WorkerBrokeProtocol { .. }
        | Event::WorkerExited { .. }
        | Event::MemoryReturned { .. }
        | Event::MemoryMeasured { .. }
        | Event::MeasurementAged { .. }
        | Event::TruceAnswered { .. }
        | Event::DeviceLost { .. }
        | Event::CpuMeasured { .. }
        | Event::SettingsChanged { .. }
        | Event::ModelsChanged { .. }
        | Event::StartRequested { .. }
        | Event::StopRequested { .. }
        | Event::RestartRequested { .. }
        | Event::PinChanged { .. }
        | Event::EvictRequested { .. }
        | Event::Scaled { .. }
        | Event::YieldRequested { .. }
        | Event::DrainRequested { .. }
        | Event::QuarantineReleased { .. }
        | Event::DeadlineReached => true,
    }
}

fn take(state: &mut State, turn: &mut Turn, event: Event) {
    match event {
        Event::RequestArrived {
            ticket,
            request,
            user,
            entropy,
        } => {
            let asked = NewRequest {
                ticket,
                request,
                user,
                entropy,
                before: None,
            };
            request::arrived(state, turn, asked);
        }
        Event::JobIdsUsed { last } => state.jobs_mut().note_used(last),
        Event::JobRestored { ticket, job } => restored::job(state, turn, ticket, *job),
        Event::QuarantineRestored { request } => restored::quarantine(state, turn, *request),
        Event::NeedRestored { need } => restored::need(state, &need),
        Event::RequestCancelled { job, by } => request::cancelled(state, turn, job, &by),
        Event::ClientGone { ticket } => request::client_gone(state, turn, ticket),
        Event::FilesArrived { model } => files::arrived(state, turn, &model),
        Event::FilesFailed { model, failure } => files::failed(state, turn, &model, &failure),
        Event::WorkerStarted { worker, pid } => worker::started(state, turn, worker, pid),
        Event::WorkerStartFailed {
            worker,
            message,
            fault,
        } => exit::start_failed(state, turn, worker, message, fault),
        Event::WorkerSaidHello { worker } => worker::said_hello(state, turn, worker),
        Event::LoadProgressed { worker, permille } => {
            worker::load_progressed(state, turn, worker, permille);
        }
        Event::LoadFailed { worker, message } => worker::load_failed(state, turn, worker, message),
        Event::WorkerReady { worker, footprint } => worker::ready(state, turn, worker, footprint),
        Event::WorkerHeard { worker } => worker::heard(state, turn, worker),
        Event::WorkerWorked { worker, work } => worker::worked(state, turn, worker, work),
        Event::StepFinished { worker, job, step } => {
            worker::step_finished(state, turn, worker, job, step);
        }
        Event::JobFinished {
            worker,
            job,
            phases,
        } => worker::job_finished(state, turn, worker, job, phases),
        Event::JobFailed { worker, job, fault } => {
            worker::job_failed(state, turn, worker, job, fault);
        }
        Event::WorkerBrokeProtocol { worker, what } => break_protocol(state, turn, worker, what),
        Event::WorkerExited {
            worker,
            exit,
            resume_step,
        } => exit::exited(state, turn, worker, exit, resume_step),
        Event::MemoryReturned { worker, left } => state.budget_mut().confirm(worker, left),
        Event::MemoryMeasured {
            device,
            total,
            measured,
            foreign,
        } => device::measured(state, turn, device, total, (measured, foreign)),
        Event::MeasurementAged { device } => state.budget_mut().age(device),
        Event::TruceAnswered { device } => device::truce_answered(state, turn, device),
        Event::DeviceLost { device, reason } => device::lost(state, turn, device, reason),
        Event::FootprintMeasured { worker, footprint } => {
            worker::footprint_measured(state, turn, worker, footprint);
        }
        Event::CpuMeasured { worker, cpu } => worker::cpu_measured(state, turn, worker, cpu),
        Event::SettingsChanged { settings } => operator::reload(state, *settings),
        Event::ModelsChanged { registry } => registry::changed(state, turn, &registry),
        Event::StartRequested { ticket, target } => operator::start(state, turn, ticket, &target),
        Event::StopRequested { ticket, target } => operator::stop(state, turn, ticket, &target),
        Event::RestartRequested { ticket, target } => {
            operator::restart(state, turn, ticket, &target);
        }
        Event::PinChanged {
            ticket,
            model,
            pinned,
        } => operator::pin(state, turn, ticket, &model, pinned),
        Event::EvictRequested { ticket, model } => operator::evict(state, turn, ticket, &model),
        Event::Scaled {
            ticket,
            model,
            workers,
        } => operator::scale(state, turn, ticket, &model, workers),
        Event::YieldRequested { ticket, lasts } => {
            operator::yield_memory(state, turn, ticket, lasts);
        }
        Event::DrainRequested { ticket, drain } => operator::drain(state, turn, ticket, drain),
        Event::QuarantineListed { ticket, reader } => {
            operator::list_quarantine(state, turn, ticket, reader.as_deref());
        }
        Event::QuarantineReleased { ticket, digest } => {
            operator::release_quarantine(state, turn, ticket, digest.as_deref());
        }
        Event::DeadlineReached => deadline::reached(state, turn),
        Event::LoopStalled { lasted } => deadline::stalled(state, turn, lasted),
    }
}
