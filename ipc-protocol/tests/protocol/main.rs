//! Tests of frames, messages and segments that hold with any peer.
//!
//! - [`golden`]: the bytes of every message
//! - [`bounds`]: frames that are too long, cut, or invalid are refused
//! - [`request`]: a request is checked before it is sent
//! - [`segment`]: both back ends behave the same

mod bounds;
mod golden;
mod request;
mod samples;
mod segment;
