//! Whether the daemon lives (`/health`), whether it can draw (`/ready`), and its metrics (`/metrics`).
//!
//! The first two need no right: they say nothing about anyone's jobs, and a load balancer has no token.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use ipc_protocol::failure::Failure;
use serde_json::json;
use tokio::time::timeout;

use super::caller::HttpCaller;
use super::context::Shared;
use super::error::ApiError;
use super::json::json_response;
use crate::config::http::HttpRight;
use crate::telemetry::metrics;

/// How long the loop may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// `GET /health`: the loop answered in time.
pub(super) async fn health(State(context): State<Shared>) -> Result<Response, ApiError> {
    let alive = in_time(context.handle.pulse()).await?;
    let uptime = alive.map_err(|failure| ApiError::from(failure).as_unavailable())?;
    let uptime_s = uptime.since(pool::Moment::START).as_secs_f64();
    Ok(json_response(
        &json!({ "status": "ok", "uptime_s": uptime_s }),
    ))
}

/// `GET /ready`: a request for one picture of the default model would become a job now.
pub(super) async fn ready(State(context): State<Shared>) -> Result<Response, ApiError> {
    let served = in_time(context.handle.can_serve(None)).await?;
    let model = served.map_err(|failure| ApiError::from(failure).as_unavailable())?;
    Ok(json_response(
        &json!({ "status": "ready", "model": model.as_str() }),
    ))
}

/// `GET /metrics`: the text that Prometheus reads.
pub(super) async fn metrics(
    State(context): State<Shared>,
    caller: HttpCaller,
) -> Result<Response, ApiError> {
    caller.may(HttpRight::Metrics)?;
    let report = context.handle.status().await?;
    let mut response = metrics::render(&report.status).into_response();
    let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

/// Waits for the loop's answer.
async fn in_time<T>(
    answer: impl Future<Output = Result<T, Failure>>,
) -> Result<Result<T, Failure>, ApiError> {
    timeout(ANSWER_MAX, answer).await.map_err(|_| {
        let seconds = ANSWER_MAX.as_secs();
        let message = format!("the daemon's loop gave no answer for {seconds} s");
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "loop_stalled", message)
    })
}

#[cfg(test)]
mod tests {
    use ipc_protocol::failure::FailureKind;

    use super::*;

    fn wait<T>(answer: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(answer)
    }

    #[test]
    fn a_loop_without_an_answer_is_unavailable_after_a_second() {
        let never = std::future::pending::<Result<(), Failure>>();
        let error = wait(in_time(never)).expect_err("no answer");
        assert_eq!(error.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(error.object()["error"]["code"], "loop_stalled");
    }

    #[test]
    fn every_reason_not_to_be_ready_is_unavailable() {
        for kind in FailureKind::ALL {
            let error = ApiError::from(Failure::new(kind, "a sentence")).as_unavailable();
            assert_eq!(error.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(error.object()["error"]["code"], kind.word());
            let response = error.into_response();
            let told = ["retry-after", "x-should-retry"];
            assert!(
                told.iter()
                    .any(|name| response.headers().contains_key(*name)),
                "{kind:?}"
            );
        }
    }
}
