//! Processes that exited, or could not be made.

use ipc_protocol::ids::Generation;

use crate::events::device;
use crate::state::State;
use crate::state::lifecycle::Lifecycle;
use crate::state::worker::Worker;
use crate::steps::blame::{DeathEvidence, note_death, note_load_failure, note_no_start};
use crate::steps::end_job::place_again;
use crate::words::cause::Cause;
use crate::words::end::{EndClass, how_ended};
use crate::words::event::{Exit, StartFault};
use crate::words::notice::Notice;
use crate::words::reasons::StopReason;
use crate::words::turn::Turn;

/// The process of a worker could not be made. If there is a process after all, only its exit ends the worker.
pub(crate) fn start_failed(
    state: &mut State,
    turn: &mut Turn,
    id: Generation,
    message: String,
    fault: StartFault,
) {
    let never_was = |worker: &&Worker| worker.pid().is_none() && !worker.has_said_hello();
    let Some(worker) = state.fleet().get(id).filter(never_was) else {
        return;
    };
    let name = worker.name().clone();
    turn.tell(Notice::SpawnFailed {
        name: name.clone(),
        message: message.clone(),
    });
    // There was no process: no memory has to settle.
    let Some(model) = state.forget_unstarted(id) else {
        return turn.defect(format!("worker {id} was never made and is unknown"));
    };
    let record = state.model_mut(model).record_mut();
    record.note_last(message.clone());
    record.note_last_death(name, EndClass::NotStarted);
    match fault {
        StartFault::Own => note_no_start(state, turn, model, message),
        StartFault::Descriptors => record.note_no_descriptors(turn.now()),
        StartFault::Program => {
            record.note_death(turn.now(), true);
            note_load_failure(state, turn, model, message, true);
        }
    }
}

/// The kernel reports that a process has exited: its memory comes back, and its job is placed again.
pub(crate) fn exited(
    state: &mut State,
    turn: &mut Turn,
    id: Generation,
    exit: Exit,
    resume_step: Option<u32>,
) {
    let Some(mut worker) = state.forget_reaped(id) else {
        return;
    };
    let load_failure = worker.take_load_failure();
    let (model, device, name) = (worker.model(), worker.device(), worker.name().clone());
    let doing = doing(&worker);
    let at_work = worker.job_at_hand().is_some();
    let remains = worker.remains();
    let (why, loading) = (remains.why(), remains.was_loading());
    let (reservation, attempt) = remains.into_parts();
    let until = turn.now() + state.settings().patience.settle;
    state.budget_mut().give_back_reaped(reservation, id, until);
    let class = EndClass::of(exit, why);
    let cause = Cause::of(class, loading);
    let how = format!("{name} {} while {doing}", how_ended(exit, why));
    match cause {
        Cause::DeviceGone => {
            device::lost(state, turn, device, how.clone());
            device::struck(state, turn, device, model);
        }
        Cause::ContextLost => device::struck(state, turn, device, model),
        Cause::Wanted
        | Cause::CannotLoad
        | Cause::OutOfMemoryLoading
        | Cause::OutOfMemory
        | Cause::KernelOutOfMemory
        | Cause::Outside
        | Cause::Starved
        | Cause::Silent
        | Cause::Fault => {}
    }
    if cause == Cause::Wanted {
        let why = why.unwrap_or(StopReason::Operator);
        state.model_mut(model).note_exit(why);
        turn.tell(Notice::Left {
            worker: id,
            name,
            why,
            loading,
        });
    } else {
        let record = state.model_mut(model).record_mut();
        record.note_last(how.clone());
        record.note_last_death(name.clone(), class);
        let death = DeathEvidence {
            cause,
            exit,
            why,
            loading,
            at_work,
            load_failure,
        };
        let backoff = note_death(state, turn, model, death);
        turn.tell(Notice::Died {
            worker: id,
            name,
            exit,
            why,
            loading,
            doing,
            job: attempt.as_ref().map(|attempt| attempt.job()),
            in_a_row: state.model(model).record().deaths_in_a_row(),
            backoff,
        });
    }
    if let Some(attempt) = attempt {
        place_again(state, turn, &attempt, cause, how, resume_step);
    }
}

/// Describes a worker's activity at its exit.
fn doing(worker: &Worker) -> String {
    let job = worker.attempt().or(worker.attempt_at_work());
    let job = job.map(|attempt| {
        let (step, steps) = (attempt.step(), attempt.steps());
        format!("job {} step {step}/{steps}", attempt.job())
    });
    match (worker.life(), job) {
        (Lifecycle::Starting { .. }, _) => "starting".into(),
        (Lifecycle::Loading { permille, .. }, _) => format!("loading {permille}/1000"),
        (Lifecycle::Unwinding { .. }, Some(job)) => format!("ending {job}"),
        (Lifecycle::Busy { .. } | Lifecycle::Stopping { .. }, Some(job)) => job,
        (Lifecycle::Stopping { .. }, None) => "stopping".into(),
        (Lifecycle::Idle { .. }, _)
        | (Lifecycle::Busy { .. } | Lifecycle::Unwinding { .. }, None) => "idle".into(),
    }
}
