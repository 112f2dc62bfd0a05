//! All workers that are not reaped, with an index by model.

use std::collections::BTreeMap;

use ipc_protocol::ids::{Device, Generation, JobId, WorkerName};
use ipc_protocol::units::Mebibytes;

use crate::state::attempt::Attempt;
use crate::state::budget::Reservation;
use crate::state::lifecycle::{Lifecycle, Transition};
use crate::state::stop::StopPlan;
use crate::state::worker::{Withdrawal, Worker};
use crate::words::moment::Moment;
use crate::words::reasons::StopReason;
use crate::words::registry::ModelId;

/// All workers that are not reaped.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    workers: BTreeMap<Generation, Worker>,
    /// By model, oldest first.
    of_model: Vec<Vec<Generation>>,
    last: u64,
}

impl Fleet {
    /// Makes an index entry for one model more.
    pub(super) fn add_model(&mut self) {
        self.of_model.push(Vec::new());
    }

    pub(crate) fn get(&self, id: Generation) -> Option<&Worker> {
        self.workers.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: Generation) -> Option<&mut Worker> {
        self.workers.get_mut(&id)
    }

    /// Every worker, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Worker> {
        self.workers.values_mut()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    pub(crate) fn contains(&self, id: Generation) -> bool {
        self.workers.contains_key(&id)
    }

    /// The generation that was given last.
    pub(crate) fn youngest(&self) -> Generation {
        Generation(self.last)
    }

    /// The workers of a model, oldest first.
    pub(crate) fn of(&self, model: ModelId) -> impl Iterator<Item = &Worker> {
        let ids = self.of_model[model.index()].iter();
        ids.filter_map(|id| self.workers.get(id))
    }

    /// How many workers a model has.
    pub(crate) fn count(&self, model: ModelId) -> usize {
        self.of_model[model.index()].len()
    }

    /// The workers of a model that were not told to exit, oldest first.
    pub(crate) fn live(&self, model: ModelId) -> impl Iterator<Item = &Worker> {
        self.of(model).filter(|worker| worker.is_live())
    }

    /// The model has a worker that was not told to exit.
    pub(crate) fn has_live(&self, model: ModelId) -> bool {
        self.live(model).next().is_some()
    }

    /// Adds a worker whose process is about to be made, and returns its generation.
    pub(crate) fn add(
        &mut self,
        name: WorkerName,
        model: ModelId,
        device: Device,
        reservation: Reservation,
        now: Moment,
    ) -> Generation {
        self.last += 1;
        let id = Generation(self.last);
        let worker = Worker::new(id, name, model, device, reservation, now);
        self.workers.insert(id, worker);
        self.of_model[model.index()].push(id);
        id
    }

    /// Takes out a worker whose process is gone, or was never made.
    pub(crate) fn forget(&mut self, id: Generation) -> Option<Worker> {
        let worker = self.workers.remove(&id)?;
        self.of_model[worker.model().index()].retain(|&other| other != id);
        Some(worker)
    }

    /// Hello received. Returns whether the worker was waiting to say it.
    pub(crate) fn begin_load(&mut self, id: Generation, now: Moment) -> bool {
        self.turn(id, now, |life| life.loading(now))
    }

    /// Its model is loaded. Returns whether the worker was loading.
    pub(crate) fn finish_load(&mut self, id: Generation, now: Moment) -> bool {
        self.turn(id, now, Lifecycle::resident)
    }

    /// Promises a worker `more`, because it holds that; returns the promise if there is no such worker.
    pub(crate) fn promise_more(
        &mut self,
        id: Generation,
        more: Reservation,
    ) -> Option<Reservation> {
        let Some(worker) = self.workers.remove(&id) else {
            return Some(more);
        };
        self.workers.insert(id, worker.holding(more));
        None
    }

    /// Begins to stop a worker. Returns whether that was not begun before.
    pub(crate) fn stop(
        &mut self,
        id: Generation,
        now: Moment,
        plan: StopPlan,
        why: StopReason,
    ) -> bool {
        self.turn(id, now, |life| life.stopping(plan, why))
    }

    /// Gives an idle worker an attempt, with the memory it takes beyond the usual. Returns that memory if the
    /// worker is not idle.
    pub(super) fn give(
        &mut self,
        id: Generation,
        attempt: Attempt,
        extra: Reservation,
        now: Moment,
    ) -> Option<Reservation> {
        let stretches = extra.amount().total() > Mebibytes::ZERO;
        let mut extra = Some(extra);
        if self.turn(id, now, |life| life.busy(&mut extra, attempt))
            && stretches
            && let Some(worker) = self.workers.get_mut(&id)
        {
            worker.note_stretched();
        }
        extra
    }

    /// Takes `job` off a worker because it is answered without it.
    pub(super) fn withdraw(&mut self, id: Generation, job: JobId, now: Moment) -> Withdrawal {
        let Some(worker) = self.workers.get_mut(&id) else {
            return Withdrawal::Unknown;
        };
        if worker.attempt_mut(job).is_none() {
            return Withdrawal::Unknown;
        }
        worker.drop_attempt();
        match self.turn(id, now, |life| life.unwinding(now)) {
            true => Withdrawal::Cancel,
            false => Withdrawal::Dropped,
        }
    }

    /// Takes `job` off a worker that is done with it. Returns the memory beyond the usual, and the attempt if
    /// the job still wants an answer; `None` if that worker is not at work on that job.
    pub(crate) fn release(
        &mut self,
        id: Generation,
        job: JobId,
        now: Moment,
    ) -> Option<(Option<Reservation>, Option<Attempt>)> {
        let worker = self.workers.get(&id)?;
        if worker.job_at_hand() != Some(job) {
            return None;
        }
        let (worker, extra, attempt) = self.workers.remove(&id)?.released(now);
        self.workers.insert(id, worker);
        Some((extra, attempt))
    }

    fn turn(
        &mut self,
        id: Generation,
        now: Moment,
        next: impl FnOnce(Lifecycle) -> Transition,
    ) -> bool {
        let Some(worker) = self.workers.remove(&id) else {
            return false;
        };
        let (worker, made) = worker.turned(now, next);
        self.workers.insert(id, worker);
        made
    }
}
