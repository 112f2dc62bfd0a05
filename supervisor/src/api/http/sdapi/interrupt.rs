//! `POST /sdapi/v1/interrupt` and `skip`: end the caller's request, or one picture of it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::context::SdapiContext;
use super::current::CurrentDrawing;
use crate::api::http::caller::HttpCaller;
use crate::api::http::error::ApiError;
use crate::api::http::json::json_response;
use crate::config::http::HttpRight;

/// Ends the caller's present request, which is answered with its finished pictures.
pub(super) async fn interrupt(
    State(context): State<Arc<SdapiContext>>,
    caller: HttpCaller,
) -> Result<Response, ApiError> {
    caller.may(HttpRight::Generate)?;
    if let Some(current) = CurrentDrawing::of(&context, &caller).await? {
        current.drawing.interrupt();
    }
    Ok(json_response(&json!({})))
}

/// Ends the caller's picture that is being drawn; its request goes on with the others.
pub(super) async fn skip(
    State(context): State<Arc<SdapiContext>>,
    caller: HttpCaller,
) -> Result<Response, ApiError> {
    caller.may(HttpRight::Generate)?;
    let current = CurrentDrawing::of(&context, &caller).await?;
    if let Some(running) = current.as_ref().and_then(CurrentDrawing::running) {
        context.ongoing.skip(&caller.user(None)?, running.job);
        // A picture that was finished in this moment is as good.
        let _ = context
            .http
            .jobs
            .cancel(running.job, &caller.caller())
            .await;
    }
    Ok(json_response(&Value::Null))
}
