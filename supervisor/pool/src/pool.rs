//! The pool itself: what it holds, and which file answers which event.

use std::collections::{BTreeMap, BTreeSet};

use ipc_protocol::ids::{Device, Generation, JobId, ModelKey};
use ipc_protocol::status::Counters;
use ipc_protocol::units::Mebibytes;

use crate::action::Action;
use crate::budget::Budget;
use crate::drain::Phase;
use crate::event::Event;
use crate::job::Job;
use crate::model::{Model, ModelId};
use crate::moment::Moment;
use crate::operator::Order;
use crate::quarantine::Quarantine;
use crate::registry::Registry;
use crate::settings::Settings;
use crate::turn::Turn;
use crate::worker::Worker;

/// Rounds of placing after one event. What one round did can let the next do more; each round that
/// does anything starts or ends something, so two or three are the rule.
const ROUNDS_MAX: u32 = 16;

/// A device and what may be promised on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceLimit {
    /// Which.
    pub device: Device,
    /// Most that may be promised.
    pub limit: Mebibytes,
    /// A dead worker's memory counts as settling until `MemoryReturned` says otherwise.
    pub confirms: bool,
}

/// All workers and the decisions about them.
#[derive(Debug)]
pub struct Pool {
    pub(crate) settings: Settings,
    pub(crate) budget: Budget,
    pub(crate) models: Vec<Model>,
    pub(crate) workers: BTreeMap<Generation, Worker>,
    pub(crate) jobs: BTreeMap<JobId, Job>,
    pub(crate) waiting_bytes: usize,
    pub(crate) timers: BTreeSet<(Moment, JobId)>,
    pub(crate) quarantine: Quarantine,
    pub(crate) orders: Vec<Order>,
    pub(crate) phase: Phase,
    pub(crate) counters: Counters,
    pub(crate) generations: u64,
    pub(crate) job_ids: u64,
    /// When the last event happened.
    pub(crate) now: Moment,
}

impl Pool {
    /// A pool without workers on `devices`.
    pub fn new(settings: Settings, registry: Registry, devices: Vec<DeviceLimit>) -> Self {
        Self {
            settings,
            budget: Budget::new(devices),
            models: registry.iter().cloned().map(Model::new).collect(),
            workers: BTreeMap::new(),
            jobs: BTreeMap::new(),
            waiting_bytes: 0,
            timers: BTreeSet::new(),
            quarantine: Quarantine::default(),
            orders: Vec::new(),
            phase: Phase::Serving,
            counters: Counters::default(),
            generations: 0,
            job_ids: 0,
            now: Moment::START,
        }
    }

    /// Takes one event at time `now` and appends what should be done about it to `actions`.
    ///
    /// Time never runs backwards in here: an earlier `now` than the last one counts as the last.
    pub fn handle(&mut self, now: Moment, event: Event, actions: &mut Vec<Action>) {
        self.now = self.now.max(now);
        let turn = &mut Turn {
            now: self.now,
            actions,
        };
        if matches!(self.phase, Phase::Gone { .. }) {
            return;
        }
        match event {
            Event::RequestArrived {
                ticket,
                request,
                user,
                entropy,
            } => return self.request_arrived(turn, ticket, request, &user, entropy),
            Event::RequestCancelled { job, by } => self.request_cancelled(turn, job, &by),
            Event::ClientGone { ticket } => self.client_gone(turn, ticket),
            Event::WorkerStarted { worker, pid } => return self.worker_started(turn, worker, pid),
            Event::WorkerStartFailed {
                worker,
                message,
                fault,
            } => self.worker_start_failed(turn, worker, message, fault),
            Event::WorkerSaidHello { worker } => return self.worker_said_hello(turn, worker),
            Event::LoadProgressed { worker, permille } => {
                return self.load_progressed(turn, worker, permille);
            }
            Event::LoadFailed { worker, message } => {
                return self.load_failed(turn, worker, message);
            }
            Event::WorkerReady { worker, footprint } => {
                self.worker_ready(turn, worker, footprint);
            }
            Event::WorkerHeard { worker } => return self.worker_heard(turn, worker),
            Event::WorkerWorked { worker, work } => {
                return self.worker_worked(turn, worker, work);
            }
            Event::StepFinished { worker, job, step } => {
                return self.step_finished(turn, worker, job, step);
            }
            Event::JobFinished {
                worker,
                job,
                phases,
            } => self.job_finished(turn, worker, job, phases),
            Event::JobFailed { worker, job, fault } => self.job_failed(turn, worker, job, fault),
            Event::WorkerBrokeProtocol { worker, what } => {
                self.worker_broke_protocol(turn, worker, what);
            }
            Event::WorkerExited {
                worker,
                exit,
                salvaged_step,
            } => self.worker_exited(turn, worker, exit, salvaged_step),
            Event::MemoryReturned { worker } => self.budget.confirm(worker),
            Event::MemoryMeasured {
                device,
                total,
                measured,
                foreign,
            } => self.budget.measure(device, total, measured, foreign),
            Event::FootprintMeasured { worker, footprint } => {
                return self.footprint_measured(turn, worker, footprint);
            }
            Event::CpuMeasured { worker, cpu } => self.cpu_measured(turn, worker, cpu),
            Event::SettingsChanged { settings } => self.settings = *settings,
            Event::ModelsChanged { registry } => self.models_changed(turn, &registry),
            Event::StartRequested { ticket, target } => self.start_requested(turn, ticket, &target),
            Event::StopRequested { ticket, target } => self.stop_requested(turn, ticket, &target),
            Event::RestartRequested { ticket, target } => {
                self.restart_requested(turn, ticket, &target);
            }
            Event::PinChanged {
                ticket,
                model,
                pinned,
            } => self.pin_changed(turn, ticket, &model, pinned),
            Event::Scaled {
                ticket,
                model,
                workers,
            } => self.scaled(turn, ticket, &model, workers),
            Event::DrainRequested { ticket, drain } => self.drain_requested(turn, ticket, drain),
            Event::QuarantineListed { ticket } => {
                return turn.acknowledge(
                    ticket,
                    self.quarantine.lines(turn.now, self.settings.quarantine),
                    true,
                );
            }
            Event::QuarantineReleased { ticket, digest } => {
                return self.quarantine_released(turn, ticket, digest.as_deref());
            }
            Event::DeadlineReached => self.deadline_reached(turn),
            Event::LoopStalled { lasted } => return self.loop_stalled(turn.now, lasted),
        }
        self.settle(turn);
    }

    /// Places what can be placed now and finishes what is done. Every event that may have changed
    /// who can run ends here; there is no other place that decides it.
    pub(crate) fn settle(&mut self, turn: &mut Turn) {
        for _ in 0..ROUNDS_MAX {
            let before = turn.actions.len();
            self.fail_hopeless(turn);
            self.note_lacks(turn.now);
            self.run_waiting(turn);
            self.start_wanted(turn);
            if turn.actions.len() == before {
                break;
            }
        }
        self.note_idle(turn.now);
        self.finish_orders(turn);
        self.finish_drain(turn);
    }

    /// The model has a worker that lives: starting, idle or busy, not stopping.
    pub fn has_workers(&self, key: &ModelKey) -> bool {
        let found = self.models.iter().find(|model| model.spec.key == *key);
        found.is_some_and(|model| self.live(model).next().is_some())
    }

    /// Memory promised to all workers on all devices, in mebibytes.
    pub fn total_memory_mb(&self) -> u64 {
        self.budget.total_reserved().0
    }

    pub(crate) fn model(&self, id: ModelId) -> &Model {
        &self.models[id.0]
    }

    pub(crate) fn model_mut(&mut self, id: ModelId) -> &mut Model {
        &mut self.models[id.0]
    }

    pub(crate) fn model_ids(&self) -> impl Iterator<Item = ModelId> + use<> {
        (0..self.models.len()).map(ModelId)
    }

    /// The model called `name`, by key or alias.
    pub(crate) fn find_model(&self, name: &str) -> Option<ModelId> {
        let called = |model: &Model| {
            let spec = &model.spec;
            !model.retired && (spec.key.as_str() == name || spec.aliases.iter().any(|a| a == name))
        };
        self.models.iter().position(called).map(ModelId)
    }

    /// The workers of a model that are not reaped.
    pub(crate) fn workers_of(&self, model: &Model) -> impl Iterator<Item = &Worker> {
        model.workers.iter().filter_map(|id| self.workers.get(id))
    }

    /// Those that are not stopping either.
    pub(crate) fn live(&self, model: &Model) -> impl Iterator<Item = &Worker> {
        self.workers_of(model).filter(|worker| worker.is_live())
    }
}
