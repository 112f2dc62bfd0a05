//! Whether a model or the pool takes jobs now, with the refusals if not.

use std::time::Duration;

use ipc_protocol::failure::{Failure, FailureKind, Field};

use crate::state::State;
use crate::state::model::Standing;
use crate::state::record::RestartVerdict;
use crate::words::moment::{Moment, ms};
use crate::words::registry::ModelId;

/// Returns true if no further worker may be started for the model now.
pub(crate) fn is_full(state: &State, id: ModelId, now: Moment) -> bool {
    let model = state.model(id);
    let probing = model.standing(now) == Standing::Tried(RestartVerdict::Probe);
    probing || state.fleet().count(id) >= model.most(state.settings())
}

/// Whether a model that is no longer offered still has jobs or workers.
pub(crate) fn is_leaving(state: &State, id: ModelId) -> bool {
    let has_some = state.fleet().count(id) > 0 || !state.jobs().queue(id).is_empty();
    state.model(id).wanted().is_retired() && has_some
}

/// The refusal of requests for a model that is no longer offered.
pub(crate) fn not_offered(state: &State, id: ModelId) -> Failure {
    let key = &state.model(id).spec().key;
    Failure {
        field: Some(Field::Model),
        ..Failure::new(
            FailureKind::UnknownModel,
            format!("{key} is no longer offered"),
        )
    }
}

/// Why a model without a live worker takes no jobs now.
pub(crate) fn refusal(state: &State, id: ModelId, now: Moment) -> Option<Failure> {
    let model = state.model(id);
    let key = &model.spec().key;
    let left_ms = |until: Moment| ms(until.since(now)).max(1);
    match model.standing(now) {
        Standing::Missing(why) => Some(Failure::new(
            FailureKind::ModelMissing,
            format!("{key} cannot be loaded: {why}"),
        )),
        Standing::Broken(why) => Some(Failure::new(
            FailureKind::ModelUnusable,
            format!("{key} cannot be loaded: {why}"),
        )),
        // Nobody looks at the files of a model that is not offered.
        Standing::Unread if model.wanted().is_retired() => Some(Failure::new(
            FailureKind::ModelUnusable,
            format!("{key} is no longer offered, and its files were not looked at before"),
        )),
        Standing::Unread => Some(Failure::new(
            FailureKind::ModelUnread,
            format!("the files of {key} are being looked at"),
        )),
        Standing::Stopped => Some(Failure::new(
            FailureKind::Stopped,
            format!("{key} is stopped"),
        )),
        Standing::Tried(RestartVerdict::Cool(cooling)) => {
            let left = left_ms(cooling.until());
            let (why, seconds) = (cooling.message(), left.div_ceil(1000));
            Some(match cooling.is_to_mend() {
                true => Failure::new(
                    FailureKind::ModelUnusable,
                    format!(
                        "{key} cannot be loaded: {why}; mend that and start {key}, or ask again after {seconds} s"
                    ),
                ),
                false => Failure::new(
                    FailureKind::LoadRefused,
                    format!("{key} cannot be loaded: {why}; next try in {seconds} s"),
                )
                .retry_after_ms(left),
            })
        }
        Standing::Tried(RestartVerdict::Open(until, failures)) => Some(
            Failure::new(
                FailureKind::ModelBroken,
                format!(
                    "{key} failed {failures} times in a row; next try in {} s{}",
                    left_ms(until).div_ceil(1000),
                    model.last_failure("; last failure: ")
                ),
            )
            .retry_after_ms(left_ms(until)),
        ),
        Standing::Tried(
            RestartVerdict::Go | RestartVerdict::Probe | RestartVerdict::BackOff(_),
        ) => None,
    }
}

/// Whether a refusal stands. One that waits for a look at the model's files does not.
pub(crate) fn is_settled(failure: &Failure) -> bool {
    failure.kind != FailureKind::ModelUnread
}

/// Whether accepted jobs of the model end with this refusal. They wait for the end of a look at its files, and for the
/// next try of a model that failed too often.
pub(crate) fn ends_accepted_jobs(failure: &Failure) -> bool {
    is_settled(failure) && failure.kind != FailureKind::ModelBroken
}

/// Whether a model may have a worker in this slot, so that the worker's name exists.
pub(crate) fn has_slot(state: &State, model: ModelId, slot: u32) -> bool {
    (slot as usize) < state.model(model).most(state.settings())
}

/// The refusal of requests while the pool is draining.
pub fn draining() -> Failure {
    let message = "the pool is draining and takes nothing new";
    Failure::new(FailureKind::Draining, message).retry_after_ms(5000)
}

/// The answer of a job whose fingerprint is quarantined as `digest`; it may be sent again after `left`.
pub(crate) fn quarantined(digest: &str, deaths: &str, left: Duration) -> Failure {
    let left = left.as_secs().max(1);
    let message = format!(
        "this request killed its workers and is in quarantine as {digest} for {left} s more: {deaths}"
    );
    Failure::new(FailureKind::Quarantined, message)
}
