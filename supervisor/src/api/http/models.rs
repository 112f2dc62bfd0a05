//! OpenAI's list of models: `GET /v1/models`, `GET /v1/models/{id}`.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use ipc_protocol::status::ModelStatus;
use pool::ModelSpec;
use serde_json::{Value, json};

use super::caller::HttpCaller;
use super::context::{HttpContext, Shared};
use super::error::ApiError;
use super::json::json_response;
use crate::config::http::HttpRight;

/// `GET /v1/models`: the models that can be drawn now, then the aliases of the default model.
pub(super) async fn list(
    State(context): State<Shared>,
    caller: HttpCaller,
) -> Result<Response, ApiError> {
    caller.may(HttpRight::Generate)?;
    let registry = context.handle.models().await?;
    let report = context.handle.status().await?;
    let models = &report.status.models;
    let entry = |id: &str, model: &ModelStatus| entry(id, model, registry.find(model.key.as_str()));
    let own = models
        .iter()
        .filter(|model| can_draw(model))
        .map(|model| entry(model.key.as_str(), model));
    let default = default_model(&context, models);
    let policy = context.policy.now();
    let aliases = policy.config.aliases.iter();
    let aliases =
        aliases.filter_map(|alias| Some(entry(alias, default.filter(|model| can_draw(model))?)));
    let data: Vec<Value> = own.chain(aliases).collect();
    Ok(json_response(&json!({"object": "list", "data": data})))
}

/// `GET /v1/models/{id}`: any model, with its status.
pub(super) async fn one(
    State(context): State<Shared>,
    caller: HttpCaller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    caller.may(HttpRight::Generate)?;
    let registry = context.handle.models().await?;
    let report = context.handle.status().await?;
    let spec = registry.find(&context.model_name(Some(&id)));
    let model = spec.and_then(|spec| {
        report
            .status
            .models
            .iter()
            .find(|model| model.key == spec.key)
    });
    match model {
        Some(model) => Ok(json_response(&entry(&id, model, spec))),
        None => {
            let message = format!("there is no model called {id:?}: GET /v1/models lists them");
            Err(ApiError::new(StatusCode::NOT_FOUND, "unknown_model", message).about(Some("model")))
        }
    }
}

fn default_model<'a>(context: &HttpContext, models: &'a [ModelStatus]) -> Option<&'a ModelStatus> {
    let default = &context.policy.now().default_model;
    models.iter().find(|model| model.key.as_str() == default)
}

/// Whether a request for the model would be drawn now.
pub(super) fn can_draw(model: &ModelStatus) -> bool {
    matches!(model.state.as_str(), "ready" | "cold")
}

/// OpenAI's fields, then ours: the model's state, its defaults and its limits.
fn entry(id: &str, model: &ModelStatus, spec: Option<&ModelSpec>) -> Value {
    let reason = model.at_rest.as_ref().map(|(_, reason)| reason);
    json!({
        "id": id,
        "object": "model",
        "created": 0,
        "owned_by": "imagepool",
        "family": model.family,
        "status": model.state,
        "reason": reason.filter(|_| !can_draw(model)),
        "default_size": spec.map(|spec| spec.default_size.to_string()),
        "size_multiple": spec.map(|spec| spec.sizes.multiple),
        "min_size": spec.map(|spec| spec.sizes.min),
        "max_size": spec.map(|spec| spec.sizes.max),
        "default_steps": spec.map(|spec| spec.default_steps),
        "max_steps": spec.map(|spec| spec.max_steps),
    })
}
