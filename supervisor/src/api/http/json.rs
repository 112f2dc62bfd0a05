//! JSON answers, and bodies within their limits.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::time::timeout;

use super::error::ApiError;
use super::fields::Fields;

/// Most bytes of a body.
const BODY_BYTES_MAX: usize = 1 << 20;
/// How long a body may take to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(10);

/// An answer of JSON.
pub(super) fn json_response(value: &Value) -> Response {
    json_text(value.to_string())
}

/// An answer of a text that is JSON.
pub(super) fn json_text(text: impl Into<Body>) -> Response {
    let mut response = text.into().into_response();
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// The fields of a JSON body, within its size and time.
impl<S: Sync> FromRequest<S> for Fields {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let body = to_bytes(request.into_body(), BODY_BYTES_MAX);
        match timeout(BODY_PATIENCE, body).await {
            Ok(Ok(bytes)) => Self::parse(&bytes),
            Ok(Err(_)) => {
                let message =
                    format!("the body is longer than {BODY_BYTES_MAX} bytes, or has broken off");
                Err(ApiError::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "too_large",
                    message,
                ))
            }
            Err(_) => {
                let message = format!(
                    "the body did not arrive within {} s",
                    BODY_PATIENCE.as_secs()
                );
                Err(ApiError::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "too_slow",
                    message,
                ))
            }
        }
    }
}
