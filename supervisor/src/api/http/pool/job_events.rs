//! `GET /v1/pool/jobs/{id}/events`: the progress of one job, as server-sent events.
//!
//! Any number of clients may read, and come late: each gets the newest steps and previews that are kept, then live ones,
//! and the end.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use ipc_protocol::ids::JobId;
use ipc_protocol::untrusted::Untrusted;
use pool::Progress;
use serde_json::{Value, json};

use super::events::KEEP_ALIVE;
use super::jobs::NamedJob;
use crate::api::http::base64::base64;
use crate::api::http::context::Shared;
use crate::api::http::encoder::FileForm;
use crate::api::http::error::ApiError;
use crate::api::jobs::facts::state_of;
use crate::api::jobs::reader::JobReader;
use crate::api::jobs::ring::{JobPreview, TrackedEnd, TrackedUpdate};
use crate::driver::handle::Caller;

/// One client that follows a job.
struct Follower {
    context: Shared,
    caller: Caller,
    job: JobId,
    reader: JobReader,
}

/// The events of a job, from the oldest that is kept to its end.
pub async fn events(
    State(context): State<Shared>,
    NamedJob { job, caller }: NamedJob,
) -> Result<Response, ApiError> {
    let reader = context.jobs.follow(job, &caller)?;
    let follower = Follower {
        context,
        caller,
        job,
        reader,
    };
    let events = stream::unfold(follower, async |mut follower| {
        let update = follower.reader.next().await?;
        let (name, value) = follower.described(update).await;
        let event = Event::default().event(name).data(value.to_string());
        Some((Ok::<_, Infallible>(event), follower))
    });
    let events = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok(events.into_response())
}

impl Follower {
    async fn described(&self, update: TrackedUpdate) -> (&'static str, Value) {
        match update {
            TrackedUpdate::Fetching(far) => (
                "fetching",
                json!({"here_bytes": far.here_bytes, "all_bytes": far.all_bytes}),
            ),
            TrackedUpdate::Accepted(accepted) => (
                "accepted",
                json!({"model": accepted.model.as_str(), "width": accepted.size.width,
                    "height": accepted.size.height, "steps": accepted.steps}),
            ),
            TrackedUpdate::Progress(progress) => self.progress(progress).await,
            TrackedUpdate::Preview(preview) => ("preview", self.preview(preview).await),
            TrackedUpdate::End(end) => ("end", ended(&end)),
        }
    }

    async fn progress(&self, progress: Progress) -> (&'static str, Value) {
        match progress {
            Progress::Waiting { position, reason } => (
                "queued",
                json!({"position": position, "reason": Untrusted::new(&reason).to_string(),
                    "eta_seconds": self.eta().await}),
            ),
            Progress::Loading { permille } => {
                ("loading", json!({"progress": f64::from(permille) / 1000.0}))
            }
            Progress::Started {
                worker,
                attempt,
                resume_step,
            } => (
                "started",
                json!({"worker": worker.to_string(), "attempt": attempt, "step": resume_step}),
            ),
            Progress::Step { index, total, .. } => (
                "step",
                json!({"step": index, "steps": total, "eta_seconds": self.eta().await}),
            ),
        }
    }

    async fn eta(&self) -> Option<f64> {
        let job = self.context.jobs.find(self.job, &self.caller).await.ok()?;
        job.eta_s
    }

    /// A preview as PNG, in the size of the latents: the client scales it.
    async fn preview(&self, preview: JobPreview) -> Value {
        let (size, step) = (preview.size, preview.step);
        let rgb8: Arc<[u8]> = preview.rgb8;
        let encoded = self
            .context
            .encoder
            .preview(FileForm::PNG, (size, rgb8), size)
            .await;
        // A preview that cannot be encoded is left out; the picture follows.
        let text = encoded.map(|bytes| base64(&bytes)).unwrap_or_default();
        json!({"b64_json": text, "width": size.width, "height": size.height, "step": step})
    }
}

fn ended(end: &TrackedEnd) -> Value {
    match end {
        TrackedEnd::Finished(_) => json!({"state": "finished", "status": "finished"}),
        TrackedEnd::Failed(failure) => {
            let state = state_of(failure).word();
            let mut value = ApiError::from(failure.clone()).object();
            value["state"] = state.into();
            value["status"] = state.into();
            value
        }
    }
}
