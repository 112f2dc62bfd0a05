//! The caller's trace, which the header `traceparent` names.

use axum::http::HeaderMap;

use crate::telemetry::traces::context::TraceParent;

/// The header of W3C Trace Context.
const HEADER: &str = "traceparent";

/// The caller's span, if it sent a valid one.
pub(super) fn parent(headers: &HeaderMap) -> Option<TraceParent> {
    let mut sent = headers.get_all(HEADER).iter();
    let header = sent.next()?.to_str().ok()?;
    // Two parents are none.
    sent.next().is_none().then(|| TraceParent::read(header))?
}
