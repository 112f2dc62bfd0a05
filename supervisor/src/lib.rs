//! The daemon that owns the models, the memory budget and the worker processes, and its command line.
//!
//! ```text
//!  4  main.rs · bin/imagepool.rs · daemon · text_to_image
//!  3  api/ · cli/                     doors translate and never decide
//!  2  driver/                         the one loop: event → pool → actions
//!  1  process/ journal/ link probe hub/ config/ telemetry/ clock      hands; they do not know each other
//!  0  allowance · frames · facts · cgroup · pool (a package of its own)     the mind
//! ```

#![deny(
    clippy::print_stderr,
    reason = "it panics without a reader: telemetry::stderr"
)]

pub mod allowance;
pub mod api;
pub mod cgroup;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod driver;
pub mod facts;
pub mod fetcher;
pub mod frames;
pub mod hub;
pub mod journal;
pub mod link;
pub mod probe;
pub mod process;
pub mod telemetry;
pub mod text_to_image;
