//! `POST /v1/images/generations`: draws pictures, and answers when all are finished.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::HOST;
use axum::http::{Extensions, HeaderMap};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::answer::{self, DrawnOrder, ended, index};
use super::order::ImageOrder;
use super::stream;
use crate::api::http::caller::{HttpCaller, Peer};
use crate::api::http::context::{HttpContext, Shared};
use crate::api::http::error::ApiError;
use crate::api::http::fields::Fields;
use crate::api::http::guard::RequestId;
use crate::api::http::json::json_response;
use crate::config::http::HttpRight;
use crate::driver::handle::{AcceptedRequest, FinishedPicture, JobUpdate};
use crate::telemetry;

/// Draws the pictures that a body asks for.
pub async fn generate(
    State(context): State<Shared>,
    caller: HttpCaller,
    headers: HeaderMap,
    extensions: Extensions,
    fields: Fields,
) -> Result<Response, ApiError> {
    caller.may(HttpRight::Generate)?;
    let models = context.handle.models().await?;
    let order = ImageOrder::read(&fields, &context, &models)?;
    let on_unix = matches!(extensions.get::<Peer>(), Some(Peer::Unix(_)));
    if order.as_url && on_unix {
        let message = "over a Unix socket a picture has no address: send response_format b64_json";
        return Err(ApiError::bad_value("response_format", message));
    }
    let user = caller.user(order.user.as_deref())?;
    order.request.check()?;
    let request = order.request.clone();
    let ongoing = context.handle.generate(request, user).await?;
    if let Some(id) = extensions.get::<RequestId>() {
        telemetry::jobs::requested(&id.0, &ongoing.accepted.jobs);
    }
    let drawn = DrawnOrder {
        order,
        accepted: ongoing.accepted.clone(),
        created: context.clock.unix_seconds(),
    };
    if let Some(partials) = drawn.order.stream {
        return Ok(stream::stream(context, drawn, ongoing, partials).into_response());
    }
    let pictures = finished(&drawn, ongoing).await?;
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    respond(&context, &drawn, &pictures, host.unwrap_or("localhost")).await
}

/// Waits for all pictures, in the order of their seeds. The first failure cancels the others.
async fn finished(
    drawn: &DrawnOrder,
    mut ongoing: AcceptedRequest,
) -> Result<Vec<Arc<FinishedPicture>>, ApiError> {
    let jobs = &drawn.accepted.jobs;
    let mut pictures: Vec<Option<Arc<FinishedPicture>>> = vec![None; jobs.len()];
    while pictures.iter().any(Option::is_none) {
        match ongoing.updates.recv().await {
            Some(JobUpdate::Picture(picture)) => {
                let index = index(jobs, picture.job);
                pictures[index] = Some(picture);
            }
            Some(JobUpdate::Failed { failure, .. }) => return Err(failure.into()),
            Some(JobUpdate::Progress { .. } | JobUpdate::Preview { .. }) => {}
            None => return Err(ended()),
        }
    }
    Ok(pictures.into_iter().flatten().collect())
}

async fn respond(
    context: &HttpContext,
    drawn: &DrawnOrder,
    pictures: &[Arc<FinishedPicture>],
    host: &str,
) -> Result<Response, ApiError> {
    let mut data = Vec::new();
    for picture in pictures {
        let bytes = drawn.encode(context, Arc::clone(picture)).await?;
        let mut entry = json!({
            "revised_prompt": drawn.order.request.prompt,
            "seed": picture.facts.seed,
        });
        match drawn.order.as_url {
            true => {
                let name = context.files.keep(drawn.order.format, bytes)?;
                entry["url"] = format!("http://{host}/files/{name}").into();
            }
            false => entry["b64_json"] = answer::base64(&bytes).into(),
        }
        data.push(entry);
    }
    let mut value = drawn.common();
    value["created"] = drawn.created.into();
    value["data"] = Value::Array(data);
    value["model"] = drawn.accepted.model.as_str().into();
    value["usage"] = drawn.usage(pictures);
    let warnings = pictures
        .first()
        .map(|picture| drawn.warnings(picture))
        .unwrap_or_default();
    if !warnings.is_empty() {
        value["warnings"] = warnings.into();
    }
    Ok(json_response(&value))
}
