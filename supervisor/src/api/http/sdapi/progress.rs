//! `GET /sdapi/v1/progress`: how far the caller's request is, with the picture as it grows.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::context::SdapiContext;
use super::current::CurrentDrawing;
use crate::api::http::base64::base64;
use crate::api::http::caller::HttpCaller;
use crate::api::http::error::ApiError;
use crate::api::http::json::json_response;
use crate::config::http::HttpRight;

/// The progress of a request that has just begun: clients take 0 for the end.
const BEGUN: f64 = 0.01;

/// The progress of the caller's present request.
pub(super) async fn progress(
    State(context): State<Arc<SdapiContext>>,
    caller: HttpCaller,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    caller.may(HttpRight::Generate)?;
    let Some(current) = CurrentDrawing::of(&context, &caller).await? else {
        return Ok(json_response(&idle()));
    };
    let mut value = described(&current);
    if !skips_picture(query.as_deref()) {
        let picture = preview(&context, &caller, &current).await?;
        value["current_image"] = picture.map(|bytes| base64(&bytes)).into();
    }
    Ok(json_response(&value))
}

/// The answer if nothing is being drawn.
fn idle() -> Value {
    json!({
        "progress": 0.0,
        "eta_relative": 0.0,
        "state": {
            "skipped": false,
            "interrupted": false,
            "stopping_generation": false,
            "job": "",
            "job_count": 0,
            "job_timestamp": "0",
            "job_no": 0,
            "sampling_step": 0,
            "sampling_steps": 0,
        },
        "current_image": null,
        "textinfo": null,
    })
}

fn described(current: &CurrentDrawing) -> Value {
    let drawing = &current.drawing;
    let count = drawing.count.max(1);
    let started = drawing.jobs.as_ref().map_or(0, |jobs| jobs.jobs.len());
    let finished = started - current.unfinished.len().min(started);
    let of_one =
        |(step, steps): (u32, Option<u32>)| f64::from(step) / f64::from(steps.unwrap_or(1).max(1));
    let unfinished = current.unfinished.iter();
    let steps: f64 = unfinished
        .clone()
        .map(|job| of_one((job.step, job.steps)))
        .sum();
    let progress = (finished as f64 + steps) / f64::from(count);
    let eta = unfinished.filter_map(|job| job.eta_s).fold(0.0, f64::max);
    let shown = current.running().or(current.unfinished.first());
    let is_interrupted = drawing.is_interrupted();
    let mut value = idle();
    value["progress"] = progress.clamp(BEGUN, 1.0).into();
    value["eta_relative"] = eta.into();
    value["textinfo"] = shown
        .map(|job| &job.reason)
        .filter(|reason| !reason.is_empty())
        .cloned()
        .into();
    let state = &mut value["state"];
    state["job"] = "txt2img".into();
    state["job_count"] = count.into();
    state["job_no"] = finished.into();
    state["sampling_step"] = shown.map_or(0, |job| job.step).into();
    state["sampling_steps"] = shown.and_then(|job| job.steps).unwrap_or(0).into();
    state["skipped"] = (!drawing.skipped.is_empty()).into();
    state["interrupted"] = is_interrupted.into();
    state["stopping_generation"] = is_interrupted.into();
    value
}

/// The newest preview of the running picture, in the size of its file.
async fn preview(
    context: &SdapiContext,
    caller: &HttpCaller,
    current: &CurrentDrawing,
) -> Result<Option<Vec<u8>>, ApiError> {
    let (Some(running), Some(jobs)) = (current.running(), &current.drawing.jobs) else {
        return Ok(None);
    };
    let preview = context.http.jobs.preview(running.job, &caller.caller());
    // A job that has ended in this moment has no preview.
    let Some(preview) = preview.ok().flatten() else {
        return Ok(None);
    };
    let encoder = &context.http.encoder;
    let pixels = (preview.size, preview.rgb8);
    encoder
        .preview(current.drawing.form, pixels, jobs.size)
        .await
        .map(Some)
}

/// Whether the query asks for no picture.
fn skips_picture(query: Option<&str>) -> bool {
    let mut values = query
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='));
    values.any(|(name, value)| {
        let is_true = matches!(
            value.to_ascii_lowercase().as_str(),
            "true" | "1" | "on" | "yes"
        );
        name == "skip_current_image" && is_true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_is_left_out_on_request() {
        for query in [
            "skip_current_image=true",
            "a=b&skip_current_image=1",
            "skip_current_image=True",
        ] {
            assert!(skips_picture(Some(query)), "{query}");
        }
        for query in [
            "",
            "skip_current_image",
            "skip_current_image=false",
            "x=true",
        ] {
            assert!(!skips_picture(Some(query)), "{query}");
        }
        assert!(!skips_picture(None));
    }
}
