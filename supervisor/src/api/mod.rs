//! The front doors. They translate and never decide.
//!
//! - [`socket`] is the native door: `ipc_protocol` clients on a Unix socket

pub mod socket;
