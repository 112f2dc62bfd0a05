//! How workers end, and what that means for their job and their model.

use std::time::Duration;

use ipc_protocol::ids::Generation;
use ipc_protocol::status::WorkerState;

use crate::action::{Notice, StopReason};
use crate::event::{Exit, KilledBy, StartFault};
use crate::job::Attempt;
use crate::model::ModelId;
use crate::pool::Pool;
use crate::stop::StopPlan;
use crate::turn::Turn;
use crate::worker::{Lifecycle, Worker};

/// Why a process ended, for the model's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// We wanted it to.
    Wanted,
    /// Its files or settings cannot work now.
    CannotLoad,
    /// No memory while loading.
    OutOfMemoryLoading,
    /// No memory while drawing.
    OutOfMemory,
    /// The device is gone.
    DeviceGone,
    /// SIGKILL, SIGTERM and the like from somebody who is neither us nor the kernel: no evidence
    /// against the model or its job.
    Outside,
    /// Anything else: a signal of its own making, a panic, a hang.
    Fault,
}

impl Pool {
    /// Tells a worker to leave, unless it is on its way out.
    pub(crate) fn end_worker(&mut self, turn: &mut Turn, id: Generation, why: StopReason) {
        if !self.workers.get(&id).is_some_and(Worker::is_live) {
            return;
        }
        let Some(worker) = self.workers.remove(&id) else {
            return;
        };
        let (plan, ask) = StopPlan::ask(turn.now, &self.settings.patience, id);
        turn.act(ask);
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
            message,
        });
        let model = worker.model;
        let remains = worker.remains();
        // There was no process: nothing has to settle.
        self.budget.give_back(remains.reservation);
        self.model_mut(model).record.note_death(turn.now, true);
        match fault {
            // It says nothing about the model.
            StartFault::Own => {}
            StartFault::Program => self.note_failure(turn, model),
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
        let cause = cause_of(exit, remains.why, remains.was_loading);
        let job = remains.attempt.as_ref().map(|attempt| attempt.job);
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
            | Cause::Outside
            | Cause::Fault => {}
        }
        if cause != Cause::Wanted {
            let backoff = self.note_death(turn, model, cause, remains.was_loading, said);
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
            let how = format!("{name} {} while {doing}", words(exit, remains.why));
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

    fn note_death(
        &mut self,
        turn: &mut Turn,
        id: ModelId,
        cause: Cause,
        loading: bool,
        said: Option<String>,
    ) -> Duration {
        let model = self.model_mut(id);
        let backoff = model.record.note_death(turn.now, loading);
        model.to_replace += 1;
        match cause {
            Cause::Wanted | Cause::Outside | Cause::DeviceGone => {}
            Cause::OutOfMemory | Cause::Fault => self.note_failure(turn, id),
            // One more try with a quarter more room; a second time in a row is a load failure.
            Cause::OutOfMemoryLoading if model.raised_percent == 0 => model.raised_percent = 25,
            Cause::OutOfMemoryLoading | Cause::CannotLoad => {
                let message = said.unwrap_or_else(|| "the worker could not load it".into());
                self.note_load_failure(turn, id, message);
            }
        }
        backoff
    }

    fn note_load_failure(&mut self, turn: &mut Turn, id: ModelId, message: String) {
        let model = self.model_mut(id);
        let for_long = model.record.note_load_failure(turn.now, message.clone());
        let model = model.spec.key.clone();
        turn.tell(Notice::LoadCooling {
            model,
            message,
            for_long,
        });
        self.note_failure(turn, id);
    }

    /// Counts a failure of the model's own towards its breaker.
    pub(crate) fn note_failure(&mut self, turn: &mut Turn, id: ModelId) {
        let settings = self.settings.clone();
        let model = self.model_mut(id);
        if let Some(failures) = model.record.note_failure(turn.now, &settings) {
            turn.tell(Notice::BreakerOpened {
                model: model.spec.key.clone(),
                failures,
                for_long: settings.breaker_open,
            });
        }
    }
}

fn at_rest(why: StopReason) -> (WorkerState, &'static str) {
    match why {
        StopReason::Idle => (WorkerState::Exited, "Idle"),
        StopReason::Evicted => (WorkerState::Exited, "Evicted"),
        StopReason::Abandoned => (WorkerState::Exited, "Load abandoned"),
        StopReason::Outdated => (WorkerState::Exited, "Model changed"),
        StopReason::Operator | StopReason::Drain => (WorkerState::Stopped, "Stopped by operator"),
        StopReason::NoHello
        | StopReason::Silent
        | StopReason::Stuck
        | StopReason::IgnoredCancel
        | StopReason::Protocol => (WorkerState::Backoff, "Ended for its own fault"),
    }
}

fn cause_of(exit: Exit, why: Option<StopReason>, was_loading: bool) -> Cause {
    match why {
        Some(why) if !why.is_fault() => return Cause::Wanted,
        Some(_) => return Cause::Fault,
        None => {}
    }
    match exit {
        Exit::Code(66 | 78 | 83) => Cause::CannotLoad,
        Exit::Code(75) if was_loading => Cause::OutOfMemoryLoading,
        Exit::Code(82) => Cause::DeviceGone,
        Exit::Code(75 | 80) => Cause::OutOfMemory,
        Exit::Code(_) => Cause::Fault,
        Exit::Signal {
            by: KilledBy::KernelOom | KilledBy::AllocationFailed,
            ..
        } => match was_loading {
            true => Cause::OutOfMemoryLoading,
            false => Cause::OutOfMemory,
        },
        Exit::Signal {
            by: KilledBy::Us, ..
        } => Cause::Fault,
        // SIGBUS: a mapped file of weights was cut or cannot be read.
        Exit::Signal {
            signal: 7,
            by: KilledBy::Other,
        } => Cause::CannotLoad,
        Exit::Signal {
            signal: 1 | 2 | 3 | 9 | 15,
            by: KilledBy::Other,
        } => Cause::Outside,
        Exit::Signal {
            by: KilledBy::Other,
            ..
        } => Cause::Fault,
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

fn words(exit: Exit, why: Option<StopReason>) -> String {
    let ended = match exit {
        Exit::Code(code) => format!("exited with code {code}"),
        Exit::Signal { signal, by } => {
            let by = match by {
                KilledBy::Us => "us",
                KilledBy::KernelOom => "the kernel, out of memory",
                KilledBy::AllocationFailed => "itself, after an allocation failed",
                KilledBy::Other => "itself or somebody else",
            };
            format!("ended by signal {signal} from {by}")
        }
    };
    match why {
        Some(why) => format!("{ended} ({})", why.word()),
        None => ended,
    }
}
