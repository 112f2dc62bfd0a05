//! The daemon, which manages models, memory and worker processes, and the command line `imagepool`.
//!
//! ```text
//!  5  main.rs · bin/imagepool.rs · daemon/ · text_to_image
//!  4  api/ · cli/                     doors and commands: translate, make no decisions
//!  3  driver/                         the one loop: event → pool → actions
//!  2  catalogue/                      the models of this machine and their files
//!  1  process/ record/ obituaries/ journal/ link probe config/ telemetry/ picture/      IO; independent of each other
//!  0  clock · allowance · frames · cgroup · line_ring · pool (a package of its own)     the mind
//! ```

#![deny(
    clippy::print_stderr,
    reason = "it panics without a reader: telemetry::stderr"
)]

// `warn(missing_docs)` marks what programs that embed the pool use; the other modules serve our own programs.
pub mod allowance;
pub mod api;
pub mod catalogue;
pub mod cgroup;
pub mod cli;
#[warn(missing_docs)]
pub mod clock;
#[warn(missing_docs)]
pub mod config;
pub mod daemon;
pub mod driver;
pub mod frames;
pub mod journal;
pub mod line_ring;
pub mod link;
pub mod obituaries;
pub mod picture;
pub mod probe;
pub mod process;
pub mod record;
pub mod telemetry;
#[warn(missing_docs)]
pub mod text_to_image;
