//! The daemon's log and its metrics. What is worth both is a struct with `tell`, which writes the line and moves the
//! metric, so that they cannot disagree; what is worth a line alone is a function.
//!
//! - [`events`] tells the pool's notices; [`jobs`], [`workers`], [`files`], [`doors`], [`hooks`] and [`daemon`] the rest
//! - [`metrics`] lists the metrics and writes them for Prometheus
//! - [`traces`] turns the moments of jobs into spans
//! - [`fields`] lists the names of all fields
//! - [`logging`] sets the format and the filter; `journal` is the format for journald
//! - `recent` keeps the newest log lines
//! - [`stderr`] prints lines; [`outlet`] is the queue between lines and a file

pub mod daemon;
pub mod doors;
pub mod events;
pub mod fields;
pub mod files;
pub mod hooks;
pub mod job_journal;
pub mod jobs;
mod journal;
pub mod logging;
pub mod metrics;
pub mod outlet;
mod recent;
pub mod stderr;
pub mod traces;
pub mod workers;

pub use recent::own_log;

/// Whole milliseconds, as log lines, answers and events have them.
pub fn ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
