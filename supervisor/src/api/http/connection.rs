//! One connection of the HTTP door, with its time limits.

use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tower::ServiceExt as _;

use super::caller::Peer;
use crate::api::stall::StallLimited;
use crate::api::unsent::{ClientBytes, UnsentBytes};
use crate::driver::handle::Handle;
use crate::telemetry::doors;

/// How long the head of a request may take, and how long a connection may have none.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Most headers of a request.
const HEADERS_MAX: usize = 64;

/// Serves the requests of one client until it leaves or the loop has ended. If the client leaves, the answer that it
/// waits for is dropped, and with it the jobs.
pub(super) async fn serve(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    router: Router,
    unsent: UnsentBytes,
    handle: &Handle,
) {
    let bytes = ClientBytes::default();
    let waiting = bytes.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let answer = router.clone().oneshot(request.map(Body::new));
        let waiting = waiting.clone();
        async move {
            let answer = answer.await;
            if let Ok(answer) = &answer {
                let size = answer.body().size_hint().exact();
                waiting.set(size.unwrap_or_default());
            }
            answer
        }
    });
    let io = TokioIo::new(StallLimited::new(io, unsent, bytes));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = handle.ended() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        doors::conversation_ended(&error);
    }
}

/// The answer for a client that has no place, with the reason.
pub(super) fn refusal(message: &str) -> String {
    let body = json!({"error": {"message": message, "type": "server_error", "code": "queue_full"}});
    let body = body.to_string();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
