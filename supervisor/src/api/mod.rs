//! The front doors. They translate and never decide.
//!
//! - [`native`] is the door on a Unix socket
//! - [`rights`] are what a client may do

pub mod native;
pub mod rights;
