//! How the daemon tells what it does.
//!
//! - [`logging`] is the format and the filter
//! - [`events`] are the things worth telling, one line each

pub mod events;
pub mod logging;
