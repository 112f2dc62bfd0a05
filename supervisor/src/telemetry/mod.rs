//! How the daemon tells what it does.
//!
//! - [`events`] are the pool's notices; [`jobs`], [`workers`], [`files`], [`doors`] and [`daemon`] the other lines
//! - [`fields`] are the names of their fields
//! - [`logging`] is the format and the filter
//! - [`stderr`] is where lines are printed, and [`outlet`] the queue between them and a file

pub mod daemon;
pub mod doors;
pub mod events;
pub mod fields;
pub mod files;
pub mod jobs;
pub mod logging;
pub mod outlet;
pub mod stderr;
pub mod workers;

/// Whole milliseconds.
fn ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
