//! `GET /v1/pool/status`: everything at one moment.

use axum::extract::State;
use axum::response::Response;

use crate::api::http::caller::HttpCaller;
use crate::api::http::context::Shared;
use crate::api::http::error::ApiError;
use crate::api::http::json::json_response;
use crate::config::http::HttpRight;

/// The report of `imagepool status --json`, with the caller's rights and the name of the default model.
pub async fn status(
    State(context): State<Shared>,
    caller: HttpCaller,
) -> Result<Response, ApiError> {
    caller.may(HttpRight::Generate)?;
    let report = context.handle.status().await?;
    let mut value = serde_json::to_value(&report.status).expect("a status is numbers and words");
    value["rights"] = caller.rights().iter().map(|right| right.word()).collect();
    value["default_model"] = context.policy.now().default_model.as_str().into();
    Ok(json_response(&value))
}
