//! The native door: frames of `ipc_protocol` on a Unix socket.
//!
//! - [`socket`] accepts clients, `conversation` serves one
//! - [`lock`] decides who opens the door, and [`watch`] notices when its names are removed
//! - [`idle`] are the clients that leave first when descriptors run out

mod conversation;
pub mod idle;
pub mod lock;
pub mod socket;
pub mod watch;
