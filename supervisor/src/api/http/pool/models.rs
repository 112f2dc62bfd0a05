//! Operators' verbs for a model: `POST /v1/pool/models/{key}/{verb}`.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use ipc_protocol::ids::ModelKey;
use ipc_protocol::messages::client::{Target, Verb};
use serde_json::json;

use crate::api::http::caller::HttpCaller;
use crate::api::http::context::Shared;
use crate::api::http::error::ApiError;
use crate::api::http::json::json_response;
use crate::config::http::HttpRight;

/// Carries out a verb; answers with its lines, as the command prints them.
pub async fn operate(
    State(context): State<Shared>,
    caller: HttpCaller,
    Path((key, word)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    caller.may(HttpRight::Operate)?;
    let verb = verb(&key, &word)?;
    let models = context.handle.models().await?;
    if models.find(&key).is_none() {
        return Err(no_model(&key));
    }
    let told = context.handle.operate(verb, caller.caller()).await?;
    Ok(json_response(
        &json!({"lines": told.lines, "success": told.success}),
    ))
}

fn verb(key: &str, word: &str) -> Result<Verb, ApiError> {
    let unknown = |message: String| ApiError::new(StatusCode::NOT_FOUND, "no_such_name", message);
    let model = ModelKey::new(key).map_err(|_| no_model(key))?;
    let pin = |pinned| Verb::Pin {
        model: key.to_owned(),
        pinned,
    };
    Ok(match word {
        "start" => Verb::Start(Target::Model(model)),
        "stop" => Verb::Stop(Target::Model(model)),
        "restart" => Verb::Restart(Target::Model(model)),
        "pin" => pin(true),
        "unpin" => pin(false),
        "evict" => Verb::Evict {
            model: key.to_owned(),
        },
        _ => {
            let message =
                format!("{word:?} is not a verb: use start, stop, restart, evict, pin or unpin");
            return Err(unknown(message));
        }
    })
}

fn no_model(key: &str) -> ApiError {
    let message = format!("there is no model called {key:?}: GET /v1/models lists them");
    ApiError::new(StatusCode::NOT_FOUND, "unknown_model", message)
}
