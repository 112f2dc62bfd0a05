//! The front doors. They translate and never decide.
//!
//! - [`socket`] is the native door on a Unix socket; `conversation` is one client at it
//! - [`rights`] are what a client may do
//! - [`lock`] decides who opens the door, and [`watch`] notices when its names are removed
//! - [`idle`] are the clients that leave first when descriptors run out

mod conversation;
pub mod idle;
pub mod lock;
pub mod rights;
pub mod socket;
pub mod watch;
