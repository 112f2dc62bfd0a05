//! The native door: frames of `ipc_protocol` on a Unix socket.
//!
//! - [`socket`] accepts clients; `conversation` serves one client, `requests` its requests for pictures, `obituaries` those
//!   for obituaries, `feeds` those for logs and events
//! - [`lock`] admits one daemon per folder

mod conversation;
mod feeds;
pub mod lock;
mod obituaries;
mod requests;
pub mod socket;
