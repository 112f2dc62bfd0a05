//! Tests of frames, messages and segments that hold with any peer.
//!
//! - [`golden`]: the bytes of every message
//! - [`bounds`]: frames that are too long, cut, or invalid are refused
//! - [`greeting`]: a client goes on if a daemon ends before it greets
//! - [`request`]: a request is checked before it is sent
//! - [`segment`]: both back ends behave the same

mod bounds;
mod golden;
mod greeting;
mod request;
mod samples;
mod segment;
