//! Whether a picture can be made now.

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::ModelKey;
use ipc_protocol::request::ImageRequest;

use crate::questions::admission::{Admission, admit};
use crate::questions::standing::refusal;
use crate::state::State;
use crate::words::event::Ticket;
use crate::words::moment::{Moment, ms};
use crate::words::new_request::NewRequest;

/// Returns the key of `model`, or of the default model, if a request for one picture at its defaults would become a
/// job now.
///
/// # Errors
/// The refusal of such a request; also if it would have to wait for the model's files.
pub(crate) fn can_serve(
    state: &State,
    now: Moment,
    model: Option<&str>,
) -> Result<ModelKey, Failure> {
    if let Some(until) = state.yields_until().filter(|&until| until > now) {
        let left_ms = ms(until.since(now));
        let message = format!(
            "the pool leaves its memory to other programs for {} s more",
            left_ms.div_ceil(1000)
        );
        return Err(Failure::new(FailureKind::LoadRefused, message).retry_after_ms(left_ms));
    }
    let request = ImageRequest {
        model: model.map(str::to_owned),
        ..ImageRequest::new("readiness")
    };
    let asked = NewRequest {
        before: None,
        ticket: Ticket(0),
        request,
        user: String::new(),
        entropy: 0,
    };
    match admit(state, now, &asked)? {
        Admission::Enter(admitted) => Ok(state.model(admitted.model).spec().key.clone()),
        Admission::AwaitFiles(id) => Err(refusal(state, id, now).unwrap_or_else(|| {
            let key = &state.model(id).spec().key;
            Failure::new(
                FailureKind::ModelUnread,
                format!("requests wait for the files of {key}"),
            )
        })),
    }
}
