//! The native door: frames of `ipc_protocol` on a Unix socket.
//!
//! - [`socket`] accepts clients; `conversation` serves one client
//! - [`lock`] admits one daemon per folder
//! - [`idle`] closes idle connections when file descriptors run out

mod conversation;
pub mod idle;
pub mod lock;
pub mod socket;
