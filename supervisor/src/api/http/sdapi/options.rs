//! `GET` and `POST /sdapi/v1/options`: the model that a client has selected.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::context::SdapiContext;
use crate::api::http::caller::HttpCaller;
use crate::api::http::error::ApiError;
use crate::api::http::fields::Fields;
use crate::api::http::json::json_response;
use crate::config::http::HttpRight;

/// The option that is the model's name.
pub(super) const MODEL: &str = "sd_model_checkpoint";

/// The options of the caller.
pub(super) async fn read(
    State(context): State<Arc<SdapiContext>>,
    caller: HttpCaller,
) -> Result<Response, ApiError> {
    caller.may(HttpRight::Generate)?;
    let model = context.model_name(&caller.user(None)?, None);
    Ok(json_response(
        &json!({MODEL: model, "samples_format": "png"}),
    ))
}

/// Selects the caller's model. Clients send all options back; the others have no effect.
pub(super) async fn change(
    State(context): State<Arc<SdapiContext>>,
    caller: HttpCaller,
    fields: Fields,
) -> Result<Response, ApiError> {
    caller.may(HttpRight::Generate)?;
    let user = caller.user(None)?;
    if let Some(asked) = fields.text(MODEL)?.filter(|name| !name.is_empty()) {
        let name = context.model_name(&user, Some(asked));
        let models = context.http.handle.models().await?;
        let model = models.find(&name).ok_or_else(|| {
            let message =
                format!("there is no model called {name:?}: GET /sdapi/v1/sd-models lists them");
            ApiError::new(StatusCode::NOT_FOUND, "unknown_model", message).about(Some(MODEL))
        })?;
        context.chosen.choose(&user, model.key.as_str());
    }
    Ok(json_response(&Value::Null))
}
