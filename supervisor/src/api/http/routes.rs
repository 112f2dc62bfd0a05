//! The table of all routes.

use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};

use super::context::Shared;
use super::error::ApiError;
use super::{files, guard, health, images, models, openapi, page, pool, sdapi};

/// All routes, behind the guard.
pub(super) fn router(context: Shared) -> Router {
    let sdapi = match context.policy.now().config.a1111 {
        true => sdapi::routes::router(context.clone()),
        false => Router::new(),
    };
    Router::new()
        .route("/", get(page::page))
        .merge(sdapi)
        .route("/v1/images/generations", post(images::generate::generate))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::one))
        .route("/v1/pool/status", get(pool::status::status))
        .route("/v1/pool/events", get(pool::events::events))
        .route("/v1/pool/jobs", get(pool::jobs::list))
        .route(
            "/v1/pool/jobs/{id}",
            get(pool::jobs::one).delete(pool::jobs::cancel),
        )
        .route("/v1/pool/jobs/{id}/image", get(pool::jobs::image))
        .route("/v1/pool/jobs/{id}/events", get(pool::job_events::events))
        .route("/v1/pool/models/{key}/{verb}", post(pool::models::operate))
        .route("/files/{name}", get(files::file))
        .route("/openapi.json", get(openapi::openapi))
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(context.clone(), guard::guard))
        .layer(from_fn(sdapi::detail::detail))
        .with_state(context)
}

async fn unknown(uri: Uri) -> ApiError {
    let message = format!("there is nothing at {:?}: see /openapi.json", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, "unknown_route", message)
}

async fn wrong_method() -> ApiError {
    let message = "this route has not this method: the header Allow lists the ones it has";
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", message)
}
