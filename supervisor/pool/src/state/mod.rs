//! Everything the pool knows.
//!
//! The invariants live here: fields are private, and only methods that keep the invariants change the state.

pub(crate) mod attempt;
pub(crate) mod book;
pub(crate) mod budget;
pub(crate) mod fleet;
pub(crate) mod job;
pub(crate) mod jobs;
pub(crate) mod lifecycle;
pub(crate) mod model;
pub(crate) mod observed;
pub(crate) mod orders;
pub(crate) mod pace;
pub(crate) mod phase;
pub(crate) mod quarantine;
pub(crate) mod queue;
pub(crate) mod record;
pub(crate) mod requests;
pub(crate) mod stop;
pub(crate) mod truce;
pub(crate) mod usage;
pub(crate) mod wanted;
pub(crate) mod watch;
pub(crate) mod worker;

use ipc_protocol::ids::{Generation, JobId};
use ipc_protocol::status::Counters;

use crate::state::attempt::Attempt;
use crate::state::budget::{Budget, DeviceLimit, Reservation};
use crate::state::fleet::Fleet;
use crate::state::job::JobStage;
use crate::state::jobs::Jobs;
use crate::state::model::Model;
use crate::state::orders::OperatorOrder;
use crate::state::phase::Phase;
use crate::state::quarantine::Quarantine;
use crate::state::requests::WaitingRequests;
use crate::state::truce::Truces;
use crate::state::usage::Usage;
use crate::state::worker::{Withdrawal, Worker};
use crate::words::moment::Moment;
use crate::words::registry::{ModelId, ModelSpec, Registry};
use crate::words::settings::Settings;

/// Everything the pool knows.
#[derive(Debug)]
pub(crate) struct State {
    settings: Settings,
    budget: Budget,
    models: Vec<Model>,
    fleet: Fleet,
    requests: WaitingRequests,
    jobs: Jobs,
    quarantine: Quarantine,
    usage: Usage,
    orders: Vec<OperatorOrder>,
    phase: Phase,
    /// Until when the pool leaves its memory to other programs.
    yields_until: Option<Moment>,
    truces: Truces,
    counters: Counters,
    now: Moment,
}

/// Where a job was that was taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TakenFrom {
    /// Its model's queue.
    Queue,
    /// This worker, with what became of the attempt there.
    Worker(Generation, Withdrawal),
}

impl State {
    /// A state without workers on `devices`.
    pub(crate) fn new(settings: Settings, registry: &Registry, devices: Vec<DeviceLimit>) -> Self {
        let mut state = Self {
            settings,
            budget: Budget::new(devices),
            models: Vec::new(),
            fleet: Fleet::default(),
            requests: WaitingRequests::default(),
            jobs: Jobs::default(),
            quarantine: Quarantine::default(),
            usage: Usage::default(),
            orders: Vec::new(),
            phase: Phase::Serving,
            yields_until: None,
            truces: Truces::default(),
            counters: Counters::default(),
            now: Moment::START,
        };
        for spec in registry.iter() {
            state.add_model(spec.clone());
        }
        state
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    pub(crate) fn budget_mut(&mut self) -> &mut Budget {
        &mut self.budget
    }

    pub(crate) fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    pub(crate) fn fleet_mut(&mut self) -> &mut Fleet {
        &mut self.fleet
    }

    /// The requests that wait for files.
    pub(crate) fn requests(&self) -> &WaitingRequests {
        &self.requests
    }

    pub(crate) fn requests_mut(&mut self) -> &mut WaitingRequests {
        &mut self.requests
    }

    pub(crate) fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    pub(crate) fn jobs_mut(&mut self) -> &mut Jobs {
        &mut self.jobs
    }

    pub(crate) fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    pub(crate) fn quarantine_mut(&mut self) -> &mut Quarantine {
        &mut self.quarantine
    }

    /// The jobs that accounts got within the last hour.
    pub(crate) fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Counts accepted jobs against the quota of their user, if that has one.
    pub(crate) fn charge(&mut self, user: &str, count: u32) {
        if let Some((account, quota)) = self.settings.quotas.of(user)
            && quota.jobs_per_hour.is_some()
        {
            self.usage.note(account, count, self.now);
        }
    }

    pub(crate) fn orders(&self) -> &[OperatorOrder] {
        &self.orders
    }

    pub(crate) fn add_order(&mut self, order: OperatorOrder) {
        self.orders.push(order);
    }

    /// Takes all orders, to look at each beside the rest of the state.
    pub(crate) fn take_orders(&mut self) -> Vec<OperatorOrder> {
        std::mem::take(&mut self.orders)
    }

    /// Puts the orders back that were taken.
    pub(crate) fn put_orders(&mut self, orders: Vec<OperatorOrder>) {
        self.orders = orders;
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn set_phase(&mut self, phase: Phase) {
        self.phase = phase;
    }

    /// Until when the pool starts neither workers nor jobs, if it yields its memory to other programs.
    pub(crate) fn yields_until(&self) -> Option<Moment> {
        self.yields_until
    }

    pub(crate) fn set_yield(&mut self, until: Option<Moment>) {
        self.yields_until = until;
    }

    /// The agreements with other programs about accelerators.
    pub(crate) fn truces(&self) -> &Truces {
        &self.truces
    }

    pub(crate) fn truces_mut(&mut self) -> &mut Truces {
        &mut self.truces
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// When the last event happened.
    pub(crate) fn now(&self) -> Moment {
        self.now
    }

    /// Moves the time to `now`, but never back; returns the time.
    pub(crate) fn advance(&mut self, now: Moment) -> Moment {
        self.now = self.now.max(now);
        self.now
    }

    pub(crate) fn model(&self, id: ModelId) -> &Model {
        &self.models[id.index()]
    }

    pub(crate) fn model_mut(&mut self, id: ModelId) -> &mut Model {
        &mut self.models[id.index()]
    }

    pub(crate) fn models(&self) -> impl Iterator<Item = &Model> {
        self.models.iter()
    }

    /// Every model, including those that are no longer offered.
    pub(crate) fn model_ids(&self) -> impl Iterator<Item = ModelId> + use<> {
        (0..self.models.len()).map(ModelId::new)
    }

    /// The model called `name`, by key or alias.
    pub(crate) fn find_model(&self, name: &str) -> Option<ModelId> {
        let named = self.models.iter().position(|model| model.answers_to(name));
        named.map(ModelId::new)
    }

    pub(crate) fn add_model(&mut self, spec: ModelSpec) {
        self.models.push(Model::new(spec));
        self.fleet.add_model();
        self.jobs.add_model();
    }

    /// Notes a model's own failure. Returns the failures in a row if this one opened its breaker.
    pub(crate) fn note_failure(&mut self, id: ModelId, now: Moment) -> Option<u32> {
        let record = self.models[id.index()].record_mut();
        record.note_failure(now, &self.settings)
    }

    /// Notes a model's finished picture. Returns whether it closed its breaker.
    pub(crate) fn note_success(&mut self, id: ModelId, now: Moment) -> bool {
        let record = self.models[id.index()].record_mut();
        record.note_success(now, &self.settings)
    }

    /// Gives a waiting job to an idle worker, with `extra`, the memory it takes beyond the usual. Returns whether
    /// both were there; if not, nothing has changed and `extra` is given back.
    pub(crate) fn assign(
        &mut self,
        worker: Generation,
        job: JobId,
        extra: Reservation,
        now: Moment,
    ) -> bool {
        let idle = self.fleet.get(worker).filter(|worker| worker.is_idle());
        let Some((spawned, ready)) = idle.map(|idle| (idle.spawned(), idle.ready())) else {
            self.budget.give_back(extra);
            return false;
        };
        let ready = ready.unwrap_or(now);
        let Some(job) = self.jobs.run(job, worker, now, spawned, ready) else {
            self.budget.give_back(extra);
            return false;
        };
        let parameters = job.parameters();
        let (steps, pixels) = (parameters.steps, parameters.size.pixels());
        let attempt = Attempt::new(job.id(), job.resume_step(), steps, pixels, now);
        match self.fleet.give(worker, attempt, extra, now) {
            None => true,
            Some(extra) => {
                self.budget.give_back(extra);
                false
            }
        }
    }

    /// Takes a job out of everything: the queue, the timers and its worker.
    pub(crate) fn take_job(&mut self, id: JobId, now: Moment) -> Option<TakenFrom> {
        let job = self.jobs.take(id)?;
        Some(match job.stage() {
            JobStage::Waiting { .. } => TakenFrom::Queue,
            JobStage::Running { worker } => {
                TakenFrom::Worker(worker, self.fleet.withdraw(worker, id, now))
            }
        })
    }

    /// Takes back what was promised to a worker whose process never was, and forgets the worker.
    pub(crate) fn forget_unstarted(&mut self, id: Generation) -> Option<ModelId> {
        let worker = self.fleet.forget(id)?;
        let model = worker.model();
        let (reservation, _) = worker.remains().into_parts();
        self.budget.give_back(reservation);
        Some(model)
    }

    /// Forgets a worker whose process was reaped.
    pub(crate) fn forget_reaped(&mut self, id: Generation) -> Option<Worker> {
        let worker = self.fleet.forget(id)?;
        self.counters.exits += 1;
        Some(worker)
    }
}
