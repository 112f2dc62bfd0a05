//! `GET /v1/pool/events`: what happens in the pool, as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use ipc_protocol::untrusted::Untrusted;
use pool::Notice;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use crate::api::http::caller::HttpCaller;
use crate::api::http::context::Shared;
use crate::api::http::error::ApiError;
use crate::config::http::HttpRight;
use crate::driver::pool_event::PoolEvent;
use crate::telemetry::ms;
use crate::telemetry::workers::how;

/// A comment is sent after this time without an event, so that proxies keep the connection.
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Events from now on, each with its facts as JSON. A client that reads too slowly gets `missed` with a number.
pub async fn events(
    State(context): State<Shared>,
    caller: HttpCaller,
) -> Result<Response, ApiError> {
    caller.may(HttpRight::Generate)?;
    let receiver = context.handle.events();
    let events = stream::unfold((receiver, context), async |(mut receiver, context)| {
        let event = tokio::select! {
            () = context.handle.ended() => return None,
            event = receiver.recv() => event,
        };
        let (name, facts) = match event {
            Ok(event) => described(&event),
            Err(RecvError::Lagged(count)) => ("missed", json!({"events": count})),
            Err(RecvError::Closed) => return None,
        };
        let event = Event::default().event(name).data(facts.to_string());
        Some((Ok::<_, Infallible>(event), (receiver, context)))
    });
    let events = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok(events.into_response())
}

/// An event's name and facts.
fn described(event: &PoolEvent) -> (&'static str, Value) {
    match event {
        PoolEvent::JobAccepted { job, model } => (
            "job_accepted",
            json!({"job": job.0, "model": model.as_str()}),
        ),
        PoolEvent::JobEnded {
            job,
            model,
            failure,
        } => {
            let outcome = failure.map_or("finished", |kind| kind.word());
            (
                "job_ended",
                json!({"job": job.0, "model": model.as_str(), "outcome": outcome}),
            )
        }
        PoolEvent::Noticed(notice) => noticed(notice),
    }
}

fn noticed(notice: &Notice) -> (&'static str, Value) {
    /// Text that may come from a worker or a file.
    fn plain(text: &str) -> String {
        Untrusted::new(text).to_string()
    }
    match notice {
        Notice::Spawned {
            worker,
            name,
            pid,
            device,
            reserved,
        } => (
            "spawned",
            json!({"worker": name.to_string(), "model": name.model.as_str(), "generation": worker.0, "pid": pid,
                "device": device.placement(), "reserved_mb": reserved.0}),
        ),
        Notice::SpawnFailed { name, message } => (
            "spawn_failed",
            json!({"worker": name.to_string(), "error": plain(message)}),
        ),
        Notice::Ready { worker, name, load } => (
            "ready",
            json!({"worker": name.to_string(), "generation": worker.0, "load_ms": ms(*load)}),
        ),
        Notice::Outgrew {
            worker,
            name,
            reserved,
            measured,
        } => (
            "outgrew",
            json!({"worker": name.to_string(), "generation": worker.0, "reserved_mb": reserved.0,
                "measured_mb": measured.0}),
        ),
        Notice::Stopping { worker, name, why } => (
            "stopping",
            json!({"worker": name.to_string(), "generation": worker.0, "reason": plain(why.word())}),
        ),
        Notice::Left {
            worker, name, why, ..
        } => (
            "exited",
            json!({"worker": name.to_string(), "generation": worker.0, "reason": plain(why.word())}),
        ),
        Notice::Died {
            worker,
            name,
            exit,
            doing,
            job,
            backoff,
            ..
        } => (
            "died",
            json!({"worker": name.to_string(), "generation": worker.0, "exit": how(*exit), "doing": plain(doing),
                "job": job.map(|job| job.0), "backoff_ms": ms(*backoff)}),
        ),
        Notice::NotReaped {
            worker,
            name,
            since,
        } => (
            "not_reaped",
            json!({"worker": name.to_string(), "generation": worker.0, "since_ms": ms(*since)}),
        ),
        Notice::PlacedAgain {
            job,
            resume_step,
            attempt,
        } => (
            "retried",
            json!({"job": job.0, "resume_step": resume_step, "attempt": attempt}),
        ),
        Notice::Evicted {
            name,
            for_model,
            freed,
        } => (
            "evicted",
            json!({"worker": name.to_string(), "for_model": for_model.as_str(), "freed_mb": freed.0}),
        ),
        Notice::BreakerOpened {
            model,
            failures,
            last,
            for_long,
        } => (
            "breaker_opened",
            json!({"model": model.as_str(), "failures": failures, "error": plain(last), "for_ms": ms(*for_long)}),
        ),
        Notice::BreakerClosed { model } => ("breaker_closed", json!({"model": model.as_str()})),
        Notice::LoadCooling {
            model,
            message,
            for_long,
        } => (
            "load_failed",
            json!({"model": model.as_str(), "error": plain(message), "for_ms": ms(*for_long)}),
        ),
        Notice::Quarantined { job, digest, .. } => {
            ("quarantined", json!({"job": job.0, "digest": digest}))
        }
        Notice::Unreclaimed {
            worker,
            device,
            amount,
        } => (
            "unreclaimed",
            json!({"generation": worker.0, "device": device.to_string(), "amount_mb": amount.0}),
        ),
        Notice::DeviceLost { device, reason } => (
            "device_lost",
            json!({"device": device.to_string(), "reason": plain(reason)}),
        ),
        Notice::DeviceRests {
            device,
            reason,
            for_long,
        } => (
            "device_rests",
            json!({"device": device.to_string(), "reason": plain(reason), "for_ms": ms(*for_long)}),
        ),
        Notice::DeviceBack { device } => ("device_back", json!({"device": device.to_string()})),
        Notice::Draining { jobs } => ("draining", json!({"jobs": jobs})),
        Notice::DrainUndone => ("drain_undone", json!({})),
        Notice::TruceAsked { device } => ("truce_asked", json!({"device": device.to_string()})),
        Notice::TruceEnded { device } => ("truce_ended", json!({"device": device.to_string()})),
        Notice::Yielding { for_long } => ("yielding", json!({"for_ms": ms(*for_long)})),
        Notice::YieldEnded => ("yield_ended", json!({})),
        Notice::Defect { what } => ("defect", json!({"error": plain(what)})),
    }
}
