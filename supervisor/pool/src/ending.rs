//! How workers end, and what that means for their job and their model.

use std::time::Duration;

use ipc_protocol::ids::Generation;
use ipc_protocol::status::WorkerState;

use crate::action::{Action, Notice, StopReason};
use crate::blame::{Cause, words};
use crate::event::{Exit, StartFault};
use crate::job::Attempt;
use crate::model::ModelId;
use crate::pool::Pool;
use crate::stop::StopPlan;
use crate::turn::Turn;
use crate::worker::{Lifecycle, Worker};

impl Pool {
    /// Tells a worker to leave, unless it is on its way out.
    pub(crate) fn end_worker(&mut self, turn: &mut Turn, id: Generation, why: StopReason) {
        let first_step = StopPlan::ask(turn.now, &self.settings.patience, id);
        self.begin_to_end(turn, id, why, first_step);
    }

    /// Terminates a worker that has no time left to leave by itself, unless it is on its way out.
    pub(crate) fn terminate_worker(&mut self, turn: &mut Turn, id: Generation, why: StopReason) {
        let first_step = StopPlan::terminate(turn.now, &self.settings.patience, id);
        self.begin_to_end(turn, id, why, first_step);
    }

    fn begin_to_end(
        &mut self,
        turn: &mut Turn,
        id: Generation,
        why: StopReason,
        (plan, action): (StopPlan, Action),
    ) {
        if !self.workers.get(&id).is_some_and(Worker::is_live) {
            return;
        }
        let Some(worker) = self.workers.remove(&id) else {
            return;
        };
        turn.act(action);
        turn.tell(Notice::Stopping {
            worker: id,
            name: worker.name.clone(),
            why,
        });
        let worker = worker.turned(turn.now, |life| life.stopping(plan, why));
        self.workers.insert(id, worker);
    }

    /// Takes the next step of a stop plan that is due.
    pub(crate) fn next_stop_step(&mut self, turn: &mut Turn, id: Generation) {
        let patience = self.settings.patience;
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let Lifecycle::Stopping { plan, .. } = &mut worker.life else {
            return;
        };
        let late = plan.killing_for(turn.now);
        let (next, action) = plan.next(turn.now, &patience, id);
        *plan = next;
        turn.act(action);
        if let Some(since) = late {
            turn.tell(Notice::NotReaped {
                worker: id,
                name: worker.name.clone(),
                since,
            });
        }
    }

    pub(crate) fn worker_broke_protocol(&mut self, turn: &mut Turn, id: Generation, what: String) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.load_failure.get_or_insert(what);
            self.end_worker(turn, id, StopReason::Protocol);
        }
    }

    pub(crate) fn worker_start_failed(
        &mut self,
        turn: &mut Turn,
        id: Generation,
        message: String,
        fault: StartFault,
    ) {
        // Where there is a process, only its reaped exit ends it.
        let never_was = |worker: &Worker| worker.pid.is_none() && !worker.has_said_hello();
        if !self.workers.get(&id).is_some_and(never_was) {
            return;
        }
        let Some(worker) = self.forget_worker(id) else {
            return;
        };
        turn.tell(Notice::SpawnFailed {
            name: worker.name.clone(),
            message: message.clone(),
        });
        let model = worker.model;
        let remains = worker.remains();
        // There was no process: nothing has to settle.
        self.budget.give_back(remains.reservation);
        self.model_mut(model).record.note_last(message.clone());
        match fault {
            StartFault::Own => self.note_no_start(turn, model, message),
            StartFault::Program => {
                self.model_mut(model).record.note_death(turn.now, true);
                self.note_load_failure(turn, model, message, true);
            }
        }
    }

    /// This machine could not make a process: nothing against the model. Its jobs are told why once that has
    /// happened several times in a row.
    fn note_no_start(&mut self, turn: &mut Turn, id: ModelId, message: String) {
        let model = self.model_mut(id);
        if let Some(for_long) = model.record.note_no_start(turn.now, &message) {
            let model = model.spec.key.clone();
            turn.tell(Notice::LoadCooling {
                model,
                message,
                for_long,
            });
        }
    }

    /// The kernel gave the process back: so do the books, and its job goes elsewhere.
    pub(crate) fn worker_exited(
        &mut self,
        turn: &mut Turn,
        id: Generation,
        exit: Exit,
        salvaged_step: Option<u32>,
    ) {
        let Some(mut worker) = self.forget_worker(id) else {
            return;
        };
        self.counters.exits += 1;
        let said = worker.load_failure.take();
        let (model, device, name) = (worker.model, worker.device, worker.name.clone());
        let doing = doing(&worker);
        let remains = worker.remains();
        let until = turn.now + self.settings.patience.settle;
        self.budget.give_back_reaped(remains.reservation, id, until);
        let cause = Cause::of(exit, remains.why, remains.was_loading);
        let job = remains.attempt.as_ref().map(|attempt| attempt.job);
        let how = format!("{name} {} while {doing}", words(exit, remains.why));
        match cause {
            Cause::Wanted => {
                let why = remains.why.unwrap_or(StopReason::Operator);
                self.model_mut(model).at_rest = at_rest(why);
                turn.tell(Notice::Left {
                    worker: id,
                    name: name.clone(),
                    why,
                });
            }
            Cause::DeviceGone => self.budget.lose(device),
            Cause::CannotLoad
            | Cause::OutOfMemoryLoading
            | Cause::OutOfMemory
            | Cause::KernelOutOfMemory
            | Cause::ContextLost
            | Cause::Outside
            | Cause::Starved
            | Cause::Silent
            | Cause::Fault => {}
        }
        if cause != Cause::Wanted {
            self.model_mut(model).record.note_last(how.clone());
            let end = End {
                cause,
                exit,
                why: remains.why,
                loading: remains.was_loading,
                said,
            };
            let backoff = self.note_death(turn, model, end);
            let model = self.model_mut(model);
            model.deaths += 1;
            model.at_rest = (WorkerState::Backoff, "Died");
            turn.tell(Notice::Died {
                worker: id,
                name: name.clone(),
                exit,
                doing: doing.clone(),
                job,
                in_a_row: model.record.deaths_in_a_row(),
                backoff,
            });
        }
        if let Some(attempt) = remains.attempt {
            self.place_again(turn, &attempt, cause, how, salvaged_step);
        }
    }

    fn forget_worker(&mut self, id: Generation) -> Option<Worker> {
        let worker = self.workers.remove(&id)?;
        self.model_mut(worker.model)
            .workers
            .retain(|&other| other != id);
        Some(worker)
    }

    fn note_death(&mut self, turn: &mut Turn, id: ModelId, end: End) -> Duration {
        let now = turn.now;
        let model = self.model_mut(id);
        model.to_replace += 1;
        let backoff = match end.cause.is_nobodys() {
            true => model.record.note_bad_luck(now),
            false => model.record.note_death(now, end.loading),
        };
        let words = words(end.exit, end.why);
        match end.cause {
            Cause::Wanted => {}
            Cause::KernelOutOfMemory if end.loading && model.raised_percent == 0 => {
                model.raised_percent = 25;
            }
            Cause::KernelOutOfMemory
            | Cause::ContextLost
            | Cause::DeviceGone
            | Cause::Outside
            | Cause::Starved => {
                if end.loading && model.record.note_lost_load() {
                    let message =
                        format!("its workers ended before they were ready, the last {words}");
                    self.cool(turn, id, message, false);
                }
            }
            Cause::Silent | Cause::Fault if end.loading && end.why.is_some() => {
                match model.record.note_hung_load() {
                    true => {
                        let message = end.said.unwrap_or(format!("its worker {words}"));
                        self.note_load_failure(turn, id, message, false);
                    }
                    false => self.note_failure(turn, id),
                }
            }
            Cause::OutOfMemory | Cause::Silent | Cause::Fault => self.note_failure(turn, id),
            // One more try with a quarter more room; a second time in a row is a load failure.
            Cause::OutOfMemoryLoading if model.raised_percent == 0 => model.raised_percent = 25,
            Cause::OutOfMemoryLoading | Cause::CannotLoad => {
                let message = end.said.unwrap_or(format!("its worker {words}"));
                let to_mend = end.cause == Cause::CannotLoad;
                self.note_load_failure(turn, id, message, to_mend);
            }
        }
        backoff
    }

    fn note_load_failure(&mut self, turn: &mut Turn, id: ModelId, message: String, to_mend: bool) {
        self.cool(turn, id, message, to_mend);
        self.note_failure(turn, id);
    }

    /// Tries no load of a model for a while.
    fn cool(&mut self, turn: &mut Turn, id: ModelId, message: String, to_mend: bool) {
        let model = self.model_mut(id);
        let for_long = model
            .record
            .note_load_failure(turn.now, message.clone(), to_mend);
        model.record.note_last(message.clone());
        let model = model.spec.key.clone();
        turn.tell(Notice::LoadCooling {
            model,
            message,
            for_long,
        });
    }

    /// Counts a failure of the model's own towards its breaker.
    pub(crate) fn note_failure(&mut self, turn: &mut Turn, id: ModelId) {
        let settings = self.settings.clone();
        let model = self.model_mut(id);
        if let Some(failures) = model.record.note_failure(turn.now, &settings) {
            turn.tell(Notice::BreakerOpened {
                model: model.spec.key.clone(),
                failures,
                last: model.record.last().unwrap_or_default().to_owned(),
                for_long: settings.breaker_open,
            });
        }
    }
}

/// The end of a worker that nobody had wanted gone.
struct End {
    cause: Cause,
    exit: Exit,
    why: Option<StopReason>,
    loading: bool,
    /// What it said about a load that failed.
    said: Option<String>,
}

fn at_rest(why: StopReason) -> (WorkerState, &'static str) {
    match why {
        StopReason::Idle => (WorkerState::Exited, "Idle"),
        StopReason::Evicted => (WorkerState::Exited, "Evicted"),
        StopReason::Scaled => (WorkerState::Exited, "Scaled down"),
        StopReason::Abandoned => (WorkerState::Exited, "Load abandoned"),
        StopReason::Outdated => (WorkerState::Exited, "Model changed"),
        StopReason::Operator | StopReason::Drain => (WorkerState::Stopped, "Stopped by operator"),
        StopReason::NoHello
        | StopReason::Silent
        | StopReason::Stuck
        | StopReason::Starved
        | StopReason::IgnoredCancel
        | StopReason::Protocol => (WorkerState::Backoff, "Ended for its own fault"),
    }
}

fn doing(worker: &Worker) -> String {
    let job = |attempt: &Attempt| {
        format!(
            "job {} step {}/{}",
            attempt.job, attempt.step, attempt.steps
        )
    };
    match &worker.life {
        Lifecycle::Starting { .. } => "starting".into(),
        Lifecycle::Loading { permille, .. } => format!("loading {permille}/1000"),
        Lifecycle::Idle { .. } => "idle".into(),
        Lifecycle::Busy { attempt, .. } => job(attempt),
        Lifecycle::Unwinding { attempt, .. } => format!("ending {}", job(attempt)),
        Lifecycle::Stopping {
            attempt: Some(attempt),
            ..
        } => job(attempt),
        Lifecycle::Stopping { attempt: None, .. } => "stopping".into(),
    }
}
