//! The daemon that a command talks to: [`connect`] finds it, or starts a [`private`] one.

pub mod connect;
pub mod private;
