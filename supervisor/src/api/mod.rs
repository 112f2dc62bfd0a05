//! The daemon's doors: they translate client messages and make no decisions.
//!
//! - [`native`]: the door on a Unix socket
//! - [`rights`]: the rights of a client

pub mod native;
pub mod rights;
