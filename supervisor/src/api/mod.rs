//! The daemon's doors: they translate client messages and make no decisions.
//!
//! - [`native`]: the door on a Unix socket
//! - [`reply`]: a finished picture in the words of `ipc_protocol`, and its receipt
//! - [`rights`]: the rights of a client

pub mod native;
pub mod reply;
pub mod rights;
