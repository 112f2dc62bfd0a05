//! The table of the routes under `/sdapi/v1/`.

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use super::context::SdapiContext;
use super::{interrupt, lists, options, progress, txt2img};
use crate::api::http::context::Shared;

/// All routes of A1111's API.
pub fn router(context: Shared) -> Router<Shared> {
    let router = Router::new()
        .route("/txt2img", post(txt2img::txt2img))
        .route("/progress", get(progress::progress))
        .route("/interrupt", post(interrupt::interrupt))
        .route("/skip", post(interrupt::skip))
        .route("/options", get(options::read).post(options::change))
        .route("/sd-models", get(lists::models))
        .route("/samplers", get(lists::samplers))
        .route("/schedulers", get(lists::schedulers))
        .route("/upscalers", get(lists::upscalers))
        .route("/latent-upscale-modes", get(lists::nothing))
        .route("/sd-vae", get(lists::nothing))
        .route("/sd-modules", get(lists::nothing))
        .route("/loras", get(lists::nothing));
    let context = Arc::new(SdapiContext::new(context));
    Router::new().nest("/sdapi/v1", router.with_state(context))
}
