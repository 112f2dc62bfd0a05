//! How the daemon tells what it does.
//!
//! - [`logging`] is the format and the filter
//! - [`events`] are the things worth telling, one line each
//! - [`stderr`] is where lines are printed, and [`outlet`] the queue between them and a file

pub mod events;
pub mod logging;
pub mod outlet;
pub mod stderr;
