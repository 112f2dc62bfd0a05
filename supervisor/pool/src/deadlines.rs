//! The one timer: when something is due next, and what to do about it then.

use std::time::Duration;

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::Generation;

use crate::action::{Action, Notice};
use crate::event::CpuTime;
use crate::model::Model;
use crate::moment::Moment;
use crate::pool::Pool;
use crate::turn::Turn;
use crate::watch::Limits;
use crate::worker::{Lifecycle, Overdue, Worker};

impl Pool {
    /// When the pool next wants `Event::DeadlineReached`; `None` while nothing waits.
    ///
    /// It may lie before the last event's time: then it is due now.
    pub fn next_deadline(&self) -> Option<Moment> {
        let workers = self.workers.values().map(|worker| self.overdue(worker).0);
        let job = self.timers.first().map(|&(at, _)| at);
        let others = [job, self.budget.deadline(), self.drains_at()];
        let models = self.models.iter().filter_map(|model| self.wakes_at(model));
        workers
            .chain(others.into_iter().flatten())
            .chain(models)
            .min()
    }

    pub(crate) fn deadline_reached(&mut self, turn: &mut Turn) {
        for (worker, device, amount) in self.budget.give_up(turn.now) {
            turn.tell(Notice::Unreclaimed {
                worker,
                device,
                amount,
            });
        }
        self.end_overdue_workers(turn);
        self.end_overdue_jobs(turn);
        self.shrink(turn);
        self.drain_overdue(turn);
    }

    /// Nobody is silent or without progress in a time in which nobody could be heard.
    pub(crate) fn loop_stalled(&mut self, now: Moment, lasted: Duration) {
        for worker in self.workers.values_mut() {
            worker.excuse(now, lasted);
        }
        self.budget.excuse(lasted);
    }

    fn overdue(&self, worker: &Worker) -> (Moment, Overdue) {
        worker.deadline(&self.settings.patience, &self.limits(worker))
    }

    /// How long a worker may go without progress.
    fn limits(&self, worker: &Worker) -> Limits {
        let attempt = match &worker.life {
            Lifecycle::Busy { attempt, .. } | Lifecycle::Unwinding { attempt, .. } => Some(attempt),
            Lifecycle::Starting { .. }
            | Lifecycle::Loading { .. }
            | Lifecycle::Idle { .. }
            | Lifecycle::Stopping { .. } => None,
        };
        let model = self.model(worker.model);
        model.limits(&self.settings.patience, worker.device, attempt)
    }

    /// Asks for the evidence on which a worker without progress is judged.
    fn measure(&mut self, turn: &mut Turn, id: Generation) {
        if let Some(watch) = self.workers.get_mut(&id).and_then(Worker::watch_mut) {
            watch.ask(turn.now);
            turn.act(Action::Measure { worker: id });
        }
    }

    /// The evidence came, or did not: the worker ends or is given more time.
    pub(crate) fn cpu_measured(&mut self, turn: &mut Turn, id: Generation, cpu: Option<CpuTime>) {
        let Some(limits) = self.workers.get(&id).map(|worker| self.limits(worker)) else {
            return;
        };
        let watch = self.workers.get_mut(&id).and_then(Worker::watch_mut);
        let verdict = watch.and_then(|watch| watch.measured(turn.now, cpu, &limits));
        if let Some(why) = verdict {
            self.end_worker(turn, id, why);
        }
    }

    fn end_overdue_workers(&mut self, turn: &mut Turn) {
        let late: Vec<(Generation, Overdue)> = self
            .workers
            .values()
            .map(|worker| (worker.generation, self.overdue(worker)))
            .filter(|(_, (at, _))| *at <= turn.now)
            .map(|(id, (_, what))| (id, what))
            .collect();
        for (id, what) in late {
            match what {
                Overdue::Stop(why) => self.end_worker(turn, id, why),
                Overdue::NextStep => self.next_stop_step(turn, id),
                Overdue::Measure => self.measure(turn, id),
                Overdue::NoSample => self.cpu_measured(turn, id, None),
            }
        }
    }

    fn end_overdue_jobs(&mut self, turn: &mut Turn) {
        while let Some(&(at, job)) = self.timers.first()
            && at <= turn.now
        {
            let Some(late) = self.jobs.get(&job) else {
                self.timers.remove(&(at, job));
                continue;
            };
            let model = late.model;
            let after = turn.now.since(late.accepted).as_millis();
            let message = format!("not done within its time limit, after {after} ms");
            let failure = Failure::new(FailureKind::DeadlineExceeded, message);
            self.end_job(turn, job, failure);
            self.abandon_loads(turn, model);
        }
    }

    /// The next moment after the last event at which a model's case is different by itself. What
    /// was already decided then is looked at again with every event, so the past is of no interest.
    fn wakes_at(&self, model: &Model) -> Option<Moment> {
        let mut moments = [self.shrinks_at(model), None, None, None];
        let waits = !model.queue.is_empty();
        if waits || model.floor(&self.settings) > 0 {
            moments[1] = model.record.changes_at(self.now);
        }
        if waits {
            moments[2] = self.grows_at(model).filter(|&at| at > self.now);
            moments[3] = self.due_at(model).filter(|&at| at > self.now);
        }
        moments.into_iter().flatten().min()
    }

    /// When the oldest job of a model that lacks room has waited for as long as it may.
    fn due_at(&self, model: &Model) -> Option<Moment> {
        if model.lacks.is_empty() {
            return None;
        }
        let oldest = self.jobs.get(&model.queue.oldest()?)?;
        Some(oldest.accepted + self.settings.max_overtake)
    }
}
