//! `POST /v1/images/generations`: draws pictures, and answers when all are finished.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{HOST, HeaderValue, LOCATION};
use axum::http::{Extensions, HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use ipc_protocol::ids::JobId;
use serde_json::{Value, json};

use super::answer::DrawnOrder;
use super::order::ImageOrder;
use super::stream;
use crate::api::http::caller::{HttpCaller, Peer};
use crate::api::http::context::{HttpContext, Shared};
use crate::api::http::error::ApiError;
use crate::api::http::fields::Fields;
use crate::api::http::guard::RequestId;
use crate::api::http::json::json_response;
use crate::api::http::json_with_files::JsonWithFiles;
use crate::api::http::ordered_pictures::OrderedPictures;
use crate::api::http::pool::jobs::described;
use crate::api::http::trace;
use crate::api::jobs::start::AttachedRequest;
use crate::config::http::HttpRight;
use crate::driver::handle::{FinishedPicture, JobUpdate};
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
    let order = ImageOrder::read(&fields, &context.policy.now(), &models)?;
    let on_unix = matches!(extensions.get::<Peer>(), Some(Peer::Unix(_)));
    if order.as_url && on_unix {
        let message = "over a Unix socket a picture has no address: send response_format b64_json";
        return Err(ApiError::bad_value("response_format", message));
    }
    let user = caller.user(order.user.as_deref())?;
    order.request.check()?;
    let request = order.request.clone();
    let tracked = context.jobs.within(trace::parent(&headers));
    let id = extensions.get::<RequestId>();
    let log = |jobs: &[JobId]| {
        if let Some(id) = id {
            telemetry::jobs::requested(&id.0, jobs);
        }
    };
    if request.detached {
        let accepted = tracked.start_detached(request, user).await?;
        log(&accepted.jobs);
        context.forms.remember(&accepted.jobs, order.form);
        return queued(&context, &accepted.jobs, &caller).await;
    }
    let ongoing = tracked.start_attached(request, user).await?;
    log(&ongoing.accepted.jobs);
    let drawn = DrawnOrder {
        order,
        accepted: ongoing.accepted.clone(),
        created: context.clock.unix_seconds(),
    };
    if let Some(partials) = drawn.order.stream {
        return Ok(stream::stream(context, drawn, ongoing, partials).into_response());
    }
    let pictures = finished(ongoing).await?;
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    respond(&context, &drawn, &pictures, host.unwrap_or("localhost")).await
}

/// Waits for all pictures, in the order of their seeds. The first failure cancels the others.
async fn finished(mut ongoing: AttachedRequest) -> Result<Vec<Arc<FinishedPicture>>, ApiError> {
    let mut pictures = OrderedPictures::of(&ongoing.accepted.jobs);
    while !pictures.are_complete() {
        match ongoing.updates.recv().await {
            Some(JobUpdate::Picture(picture)) => pictures.insert(picture),
            Some(JobUpdate::Failed { failure, .. }) => return Err(failure.into()),
            Some(JobUpdate::Progress { .. } | JobUpdate::Preview { .. }) => {}
            None => return Err(ApiError::ended()),
        }
    }
    Ok(pictures.finished())
}

/// The answer of a request whose jobs go on without its client.
async fn queued(
    context: &HttpContext,
    jobs: &[JobId],
    caller: &HttpCaller,
) -> Result<Response, ApiError> {
    let job = context.jobs.find(jobs[0], &caller.caller()).await?;
    let mut value = described(&job);
    value["ids"] = jobs.iter().map(|job| job.0).collect();
    let mut response = json_response(&value);
    *response.status_mut() = StatusCode::ACCEPTED;
    // Digits are valid in a header.
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/pool/jobs/{}", jobs[0])) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

async fn respond(
    context: &HttpContext,
    drawn: &DrawnOrder,
    pictures: &[Arc<FinishedPicture>],
    host: &str,
) -> Result<Response, ApiError> {
    let mut answer = JsonWithFiles::default();
    answer.text("{\"data\":[");
    for (nth, picture) in pictures.iter().enumerate() {
        let bytes = drawn.encode(&context.encoder, Arc::clone(picture)).await?;
        let mut entry = json!({
            "revised_prompt": drawn.order.request.prompt,
            "seed": picture.facts.seed,
        });
        answer.text(if nth > 0 { "," } else { "" });
        match drawn.order.as_url {
            true => {
                let limits = context.policy.now().results;
                let name = context.files.keep(limits, drawn.order.form.format, bytes)?;
                entry["url"] = format!("http://{host}/files/{name}").into();
                answer.text(entry.to_string());
            }
            false => {
                answer.text("{\"b64_json\":\"");
                answer.file(bytes);
                answer.text("\"");
                answer.further_fields(&entry);
            }
        }
    }
    answer.text("]");
    answer.further_fields(&fields(drawn, pictures));
    Ok(answer.response())
}

/// The fields of an answer besides its pictures.
fn fields(drawn: &DrawnOrder, pictures: &[Arc<FinishedPicture>]) -> Value {
    let mut value = drawn.common();
    value["created"] = drawn.created.into();
    value["model"] = drawn.accepted.model.as_str().into();
    value["usage"] = drawn.usage(pictures);
    let warnings = pictures
        .first()
        .map(|picture| drawn.warnings(picture))
        .unwrap_or_default();
    if !warnings.is_empty() {
        value["warnings"] = warnings.into();
    }
    value
}
