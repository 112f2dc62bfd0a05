//! `POST /sdapi/v1/txt2img`: draws pictures, and answers when all are finished or the client ends them.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Extensions;
use axum::response::Response;
use pool::AcceptedJobs;
use serde_json::{Value, json};

use super::context::SdapiContext;
use super::info::DrawingInfo;
use super::ongoing::{DrawingEntry, DrawingJobs};
use super::options::MODEL;
use super::order::SdapiOrder;
use crate::api::http::caller::HttpCaller;
use crate::api::http::error::ApiError;
use crate::api::http::fields::Fields;
use crate::api::http::guard::RequestId;
use crate::api::http::json_with_files::JsonWithFiles;
use crate::api::http::ordered_pictures::OrderedPictures;
use crate::api::jobs::start::AttachedRequest;
use crate::config::http::HttpRight;
use crate::driver::handle::{FinishedPicture, JobUpdate};
use crate::telemetry;

/// A request and its finished pictures.
#[derive(Default)]
struct DrawnPictures {
    /// Its jobs; `None` if its client ended it before it became any.
    accepted: Option<AcceptedJobs>,
    /// The finished pictures, in the order of their seeds.
    pictures: Vec<Arc<FinishedPicture>>,
}

/// Draws the pictures that a body asks for. A client that leaves cancels them.
pub(super) async fn txt2img(
    State(context): State<Arc<SdapiContext>>,
    caller: HttpCaller,
    extensions: Extensions,
    fields: Fields,
) -> Result<Response, ApiError> {
    caller.may(HttpRight::Generate)?;
    let user = caller.user(None)?;
    let settings = fields.object("override_settings")?.unwrap_or_default();
    let name = context.model_name(&user, settings.text(MODEL)?);
    let models = context.http.handle.models().await?;
    let max_pixels = context.http.policy.now().max_pixels;
    let order = SdapiOrder::read(&fields, &name, models.find(&name), max_pixels)?;
    order.request.check()?;
    let mut entry = context
        .ongoing
        .enter(&user, order.request.count, order.form);
    let id = extensions.get::<RequestId>();
    let drawn = draw(&context, &order, user, id, &mut entry).await?;
    let images = encoded(&context, &order, &drawn).await?;
    let info = DrawingInfo {
        order: &order,
        accepted: drawn.accepted.as_ref(),
        pictures: &drawn.pictures,
    };
    let fields = json!({
        "parameters": fields.echo(),
        "info": info.value().to_string(),
    });
    Ok(answered(images, &fields))
}

/// Draws until all pictures are finished or the client ends the request.
async fn draw(
    context: &SdapiContext,
    order: &SdapiOrder,
    user: String,
    id: Option<&RequestId>,
    entry: &mut DrawingEntry,
) -> Result<DrawnPictures, ApiError> {
    let start = context
        .http
        .jobs
        .start_attached(order.request.clone(), user);
    let ongoing = tokio::select! {
        started = start => started?,
        () = entry.interrupted() => return Ok(DrawnPictures::default()),
    };
    if let Some(id) = id {
        telemetry::jobs::requested(&id.0, &ongoing.accepted.jobs);
    }
    entry.started(DrawingJobs {
        jobs: ongoing.accepted.jobs.clone(),
        size: ongoing.accepted.size,
    });
    let accepted = Some(ongoing.accepted.clone());
    let pictures = finished(ongoing, entry).await?;
    Ok(DrawnPictures { accepted, pictures })
}

/// Waits for the pictures. The end of the request by its client cancels the unfinished ones; so does a failure.
async fn finished(
    mut ongoing: AttachedRequest,
    entry: &mut DrawingEntry,
) -> Result<Vec<Arc<FinishedPicture>>, ApiError> {
    let mut pictures = OrderedPictures::of(&ongoing.accepted.jobs);
    while !pictures.are_complete() {
        let update = tokio::select! {
            // Pictures that are finished come first.
            biased;
            update = ongoing.updates.recv() => update,
            () = entry.interrupted() => break,
        };
        match update {
            Some(JobUpdate::Picture(picture)) => pictures.insert(picture),
            Some(JobUpdate::Failed { job, .. }) if entry.is_skipped(job) => pictures.leave_out(job),
            Some(JobUpdate::Failed { failure, .. }) => return Err(failure.into()),
            Some(JobUpdate::Progress { .. } | JobUpdate::Preview { .. }) => {}
            None => return Err(ApiError::ended()),
        }
    }
    Ok(pictures.finished())
}

/// The answer with the files of the pictures and further fields.
fn answered(images: Vec<Vec<u8>>, fields: &Value) -> Response {
    let mut answer = JsonWithFiles::default();
    answer.text("{\"images\":[");
    for (nth, image) in images.into_iter().enumerate() {
        answer.text(if nth > 0 { ",\"" } else { "\"" });
        answer.file(image);
        answer.text("\"");
    }
    answer.text("]");
    answer.further_fields(fields);
    answer.response()
}

/// The files of the pictures.
async fn encoded(
    context: &SdapiContext,
    order: &SdapiOrder,
    drawn: &DrawnPictures,
) -> Result<Vec<Vec<u8>>, ApiError> {
    let mut images = Vec::new();
    let Some(accepted) = drawn.accepted.as_ref().filter(|_| order.send_images) else {
        return Ok(images);
    };
    for picture in &drawn.pictures {
        let encoder = &context.http.encoder;
        let bytes = encoder.finished(order.form, &order.request, accepted, Arc::clone(picture));
        images.push(bytes.await?);
    }
    Ok(images)
}
