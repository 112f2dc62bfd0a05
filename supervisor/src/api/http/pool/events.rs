//! `GET /v1/pool/events`: what happens in the pool, as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use crate::api::http::caller::HttpCaller;
use crate::api::http::context::Shared;
use crate::api::http::error::ApiError;
use crate::config::http::HttpRight;

/// A comment is sent after this time without an event, so that proxies keep the connection.
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Events from now on, each with its facts as JSON. A client that reads too slowly gets `missed` with a number.
pub async fn events(
    State(context): State<Shared>,
    caller: HttpCaller,
) -> Result<Response, ApiError> {
    caller.may(HttpRight::Generate)?;
    let feed = context.handle.events().await?;
    let events = stream::unfold((feed, context), async |(mut feed, context)| {
        let report = tokio::select! {
            () = context.handle.ended() => return None,
            report = feed.next() => report?,
        };
        let facts = serde_json::to_string(&*report).expect("facts are numbers and words");
        let event = Event::default().event(&report.event).data(facts);
        Some((Ok::<_, Infallible>(event), (feed, context)))
    });
    let events = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok(events.into_response())
}
