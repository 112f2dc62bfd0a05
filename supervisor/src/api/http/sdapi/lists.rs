//! The values that clients let their users choose from.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use ipc_protocol::status::ModelStatus;
use pool::Registry;
use serde_json::{Value, json};

use super::context::SdapiContext;
use crate::api::http::caller::HttpCaller;
use crate::api::http::error::ApiError;
use crate::api::http::json::json_response;
use crate::api::http::models::can_draw;
use crate::config::http::HttpRight;

/// The sampler of every model.
pub(super) const SAMPLER: &str = "Euler";
/// Characters of the short hash of a model.
const HASH_CHARACTERS: usize = 10;

/// `GET /sdapi/v1/sd-models`: the models that can be drawn now.
pub(super) async fn models(
    State(context): State<Arc<SdapiContext>>,
    caller: HttpCaller,
) -> Result<Response, ApiError> {
    caller.may(HttpRight::Generate)?;
    let report = context.http.handle.status().await?;
    let registry = context.http.handle.models().await?;
    let can_be_drawn = report.status.models.iter().filter(|model| can_draw(model));
    let models: Value = can_be_drawn.map(|model| entry(model, &registry)).collect();
    Ok(json_response(&models))
}

/// A model. Its title has no hash, so that the title is the name at every door.
fn entry(model: &ModelStatus, registry: &Registry) -> Value {
    let key = model.key.as_str();
    let digest = registry.find(key).map(|spec| spec.digest.as_str());
    json!({
        "title": key,
        "model_name": key,
        "hash": digest.and_then(short_hash),
        // Our digest is of all files of the model, not of one.
        "sha256": null,
        "filename": key,
        "config": null,
    })
}

/// The first characters of a digest, as these clients show it.
pub(super) fn short_hash(digest: &str) -> Option<&str> {
    let hash = digest.rsplit(':').next().unwrap_or_default();
    hash.get(..HASH_CHARACTERS)
}

/// `GET /sdapi/v1/samplers`.
pub(super) async fn samplers(caller: HttpCaller) -> Result<Response, ApiError> {
    caller.may(HttpRight::Generate)?;
    Ok(json_response(
        &json!([{"name": SAMPLER, "aliases": ["euler", "k_euler"], "options": {}}]),
    ))
}

/// `GET /sdapi/v1/schedulers`.
pub(super) async fn schedulers(caller: HttpCaller) -> Result<Response, ApiError> {
    caller.may(HttpRight::Generate)?;
    Ok(json_response(&json!([{
        "name": "automatic",
        "label": "Automatic",
        "aliases": null,
        "default_rho": -1.0,
        "need_inner_model": false,
    }])))
}

/// `GET /sdapi/v1/upscalers`.
pub(super) async fn upscalers(caller: HttpCaller) -> Result<Response, ApiError> {
    caller.may(HttpRight::Generate)?;
    Ok(json_response(&json!([{
        "name": "None",
        "model_name": null,
        "model_path": null,
        "model_url": null,
        "scale": 4,
    }])))
}

/// The lists without an entry: autoencoders, modules, adapters, upscalers of latents.
pub(super) async fn nothing(caller: HttpCaller) -> Result<Response, ApiError> {
    caller.may(HttpRight::Generate)?;
    Ok(json_response(&json!([])))
}
