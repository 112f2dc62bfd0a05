//! The daemon's log.
//!
//! - [`events`] logs the pool's notices; [`jobs`], [`workers`], [`files`], [`doors`] and [`daemon`] the other lines
//! - [`fields`] lists the names of all fields
//! - [`logging`] sets the format and the filter
//! - [`stderr`] prints lines; [`outlet`] is the queue between lines and a file

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
