//! The promises of the wire and the segment, with any peer.
//!
//! - [`golden`] fixes the bytes of every message
//! - [`bounds`] refuses what is too long, cut, or not a frame at all
//! - [`request`] bounds a request before it is sent
//! - [`segment`] is one contract over both back ends

mod bounds;
mod golden;
mod request;
mod samples;
mod segment;
