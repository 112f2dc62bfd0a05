//! Notes failures in the record of the model that they count against.

use std::time::Duration;

use ipc_protocol::failure::{Failure, FailureKind};

use crate::state::State;
use crate::state::worker::Worker;
use crate::steps::end_job::{RETRY_MS, fail_waiting};
use crate::words::cause::Cause;
use crate::words::end::how_ended;
use crate::words::event::Exit;
use crate::words::notice::Notice;
use crate::words::reasons::StopReason;
use crate::words::registry::ModelId;
use crate::words::turn::Turn;

/// The end of a worker that was not wanted.
pub(crate) struct DeathEvidence {
    pub(crate) cause: Cause,
    pub(crate) exit: Exit,
    /// The reason to stop it, if it was stopped.
    pub(crate) why: Option<StopReason>,
    pub(crate) loading: bool,
    /// It was at work on a job, wanted or not.
    pub(crate) at_work: bool,
    /// Its message about a load that failed.
    pub(crate) load_failure: Option<String>,
}

impl DeathEvidence {
    /// It is charged to the job that the worker was at work on, and therefore not to the model.
    fn is_charged(&self) -> bool {
        self.at_work && matches!(self.cause, Cause::Fault | Cause::OutOfMemory)
    }
}

/// Notes the death of a worker of a model; returns how long its replacement waits.
pub(crate) fn note_death(
    state: &mut State,
    turn: &mut Turn,
    id: ModelId,
    death: DeathEvidence,
) -> Duration {
    let now = turn.now();
    let model = state.model_mut(id);
    model.note_death();
    let record = model.record_mut();
    let charged = death.is_charged();
    let backoff = match death.cause.is_nobodys() || charged {
        true => record.note_bad_luck(now),
        false => record.note_death(now, death.loading),
    };
    let words = how_ended(death.exit, death.why);
    let reason = |said: Option<String>| said.unwrap_or(format!("its worker {words}"));
    match death.cause {
        Cause::Wanted => {}
        Cause::Fault | Cause::OutOfMemory if charged => {}
        Cause::KernelOutOfMemory if death.loading && model.observed_mut().raise_need() => {}
        Cause::KernelOutOfMemory
        | Cause::ContextLost
        | Cause::DeviceGone
        | Cause::Outside
        | Cause::Starved => {
            if death.loading {
                note_lost_load(state, turn, id, &words);
            }
        }
        Cause::Silent | Cause::Fault if death.loading && death.why.is_some() => {
            match model.record_mut().note_hung_load() {
                true => note_load_failure(state, turn, id, reason(death.load_failure), false),
                false => note_failure(state, turn, id),
            }
        }
        Cause::OutOfMemory | Cause::Silent | Cause::Fault => {
            note_failure(state, turn, id);
            if death.loading {
                note_lost_load(state, turn, id, &words);
            }
        }
        // One more try with more memory; a second time in a row is a load failure.
        Cause::OutOfMemoryLoading if model.observed_mut().raise_need() => {}
        Cause::OutOfMemoryLoading | Cause::CannotLoad => {
            let to_mend = death.cause == Cause::CannotLoad;
            note_load_failure(state, turn, id, reason(death.load_failure), to_mend);
        }
    }
    backoff
}

/// Notes a load that ended before its worker was ready. After many of them in a row the waiting jobs fail, unless a
/// worker can draw them; the model rests no longer than after each of them.
fn note_lost_load(state: &mut State, turn: &mut Turn, id: ModelId, words: &str) {
    let ready = state.fleet().live(id).any(Worker::is_resident);
    if !state.model_mut(id).record_mut().note_lost_load() || ready {
        return;
    }
    let key = &state.model(id).spec().key;
    let message = format!(
        "{key} cannot be loaded: its workers ended before they were ready, the last {words}"
    );
    let failure = Failure::new(FailureKind::LoadRefused, message).retry_after_ms(RETRY_MS);
    fail_waiting(state, turn, id, &failure);
}

/// Notes that this machine could not make a process, which does not count against the model. Its jobs fail once
/// that has happened several times in a row.
pub(crate) fn note_no_start(state: &mut State, turn: &mut Turn, id: ModelId, message: String) {
    let model = state.model_mut(id);
    if let Some(for_long) = model.record_mut().note_no_start(turn.now(), &message) {
        let model = model.spec().key.clone();
        turn.tell(Notice::LoadCooling {
            model,
            message,
            for_long,
        });
    }
}

/// Notes a load that failed: the model cools down, and its breaker counts a failure.
pub(crate) fn note_load_failure(
    state: &mut State,
    turn: &mut Turn,
    id: ModelId,
    message: String,
    to_mend: bool,
) {
    cool(state, turn, id, message, to_mend);
    note_failure(state, turn, id);
}

fn cool(state: &mut State, turn: &mut Turn, id: ModelId, message: String, to_mend: bool) {
    let model = state.model_mut(id);
    let record = model.record_mut();
    let for_long = record.note_load_failure(turn.now(), message.clone(), to_mend);
    record.note_last(message.clone());
    let model = model.spec().key.clone();
    turn.tell(Notice::LoadCooling {
        model,
        message,
        for_long,
    });
}

/// Counts a model's own failure towards its breaker.
pub(crate) fn note_failure(state: &mut State, turn: &mut Turn, id: ModelId) {
    if let Some(failures) = state.note_failure(id, turn.now()) {
        let model = state.model(id);
        turn.tell(Notice::BreakerOpened {
            model: model.spec().key.clone(),
            failures,
            last: model.record().last().unwrap_or_default().to_owned(),
            for_long: state.settings().breaker_open,
        });
    }
}
