//! The front doors. They translate and never decide.
//!
//! - [`socket`] is the native door on a Unix socket; `conversation` is one client at it

mod conversation;
pub mod socket;
