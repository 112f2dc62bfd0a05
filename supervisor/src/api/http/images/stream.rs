//! The answer with `stream`: previews as the pictures grow, then each picture, as server-sent events.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use ipc_protocol::ids::JobId;
use ipc_protocol::units::PictureSize;
use pool::Progress;
use serde_json::Value;

use super::answer::{DrawnOrder, index};
use super::partial::PartialPlan;
use crate::api::http::base64::base64;
use crate::api::http::context::Shared;
use crate::api::http::error::ApiError;
use crate::api::http::pool::events::KEEP_ALIVE;
use crate::api::jobs::start::AttachedRequest;
use crate::driver::handle::{FinishedPicture, JobUpdate};

/// A streamed answer. Dropping it, as when its client leaves, cancels the jobs.
struct StreamedAnswer {
    context: Shared,
    drawn: DrawnOrder,
    ongoing: AttachedRequest,
    pictures: BTreeMap<JobId, GrowingPicture>,
}

/// A picture that is not finished.
struct GrowingPicture {
    plan: PartialPlan,
    /// Its last finished step.
    step: u32,
}

/// The events of a request, with previews of each picture.
pub(super) fn stream(
    context: Shared,
    drawn: DrawnOrder,
    ongoing: AttachedRequest,
    partials: usize,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let growing = |job: &JobId| {
        let plan = PartialPlan::new(partials, drawn.accepted.steps);
        (*job, GrowingPicture { plan, step: 0 })
    };
    let answer = StreamedAnswer {
        pictures: drawn.accepted.jobs.iter().map(growing).collect(),
        context,
        drawn,
        ongoing,
    };
    let events = stream::unfold(answer, async |mut answer| {
        let event = answer.next().await?;
        Some((Ok(event), answer))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

impl StreamedAnswer {
    /// Waits for the next event; `None` after the last one.
    async fn next(&mut self) -> Option<Event> {
        while !self.pictures.is_empty() {
            let event = match self.ongoing.updates.recv().await {
                None => Err(ApiError::ended()),
                Some(JobUpdate::Failed { failure, .. }) => Err(failure.into()),
                Some(JobUpdate::Picture(picture)) => self.completed(picture).await.map(Some),
                Some(JobUpdate::Preview {
                    job, size, rgb8, ..
                }) => self.partial(job, size, rgb8.to_vec()).await,
                Some(JobUpdate::Progress { job, progress }) => {
                    self.note(job, &progress);
                    Ok(None)
                }
            };
            match event {
                Ok(None) => {}
                Ok(Some(event)) => return Some(event),
                Err(error) => {
                    // The others are cancelled with the answer.
                    self.pictures.clear();
                    let object = error.object().to_string();
                    return Some(Event::default().event("error").data(object));
                }
            }
        }
        None
    }

    fn note(&mut self, job: JobId, progress: &Progress) {
        if let (Progress::Step { index, .. }, Some(picture)) =
            (progress, self.pictures.get_mut(&job))
        {
            picture.step = *index;
        }
    }

    async fn partial(
        &mut self,
        job: JobId,
        size: PictureSize,
        rgb8: Vec<u8>,
    ) -> Result<Option<Event>, ApiError> {
        let Some(picture) = self.pictures.get_mut(&job) else {
            return Ok(None);
        };
        // The preview of a step comes before the news that the step is finished.
        let Some(number) = picture.plan.take(picture.step + 1) else {
            return Ok(None);
        };
        let (form, drawn) = (self.drawn.order.form, self.drawn.accepted.size);
        let encoder = &self.context.encoder;
        let bytes = encoder.preview(form, (size, rgb8), drawn).await?;
        let mut value = self.event(job, "image_generation.partial_image", &bytes);
        value["partial_image_index"] = number.into();
        Ok(Some(event("image_generation.partial_image", &value)))
    }

    async fn completed(&mut self, picture: Arc<FinishedPicture>) -> Result<Event, ApiError> {
        self.pictures.remove(&picture.job);
        let bytes = self
            .drawn
            .encode(&self.context.encoder, Arc::clone(&picture))
            .await?;
        let mut value = self.event(picture.job, "image_generation.completed", &bytes);
        value["seed"] = picture.facts.seed.into();
        let warnings = self.drawn.warnings(&picture);
        if !warnings.is_empty() {
            value["warnings"] = warnings.into();
        }
        value["usage"] = self.drawn.usage(std::slice::from_ref(&picture));
        Ok(event("image_generation.completed", &value))
    }

    /// The fields that both kinds of events have.
    fn event(&self, job: JobId, kind: &str, bytes: &[u8]) -> Value {
        let mut value = self.drawn.common();
        value["type"] = kind.into();
        value["b64_json"] = base64(bytes).into();
        value["created_at"] = self.drawn.created.into();
        value["image_index"] = index(&self.drawn.accepted.jobs, job).into();
        value
    }
}

fn event(name: &str, value: &Value) -> Event {
    Event::default().event(name).data(value.to_string())
}
