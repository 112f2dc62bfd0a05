//! The harness for tests of real processes.
//!
//! - [`sandbox`] is a temporary home with a runtime folder and settings; nothing leaves it
//! - [`daemon`] is a supervisor in it, [`imagepool`] the command, [`program`] how both are started
//! - [`lines`] is a stderr that can be waited for, [`wait`] the one place that looks again and again
//! - [`record`] is what a daemon wrote down, and its decisions again
//! - [`processes`], [`figures`] and [`census`] count what is there, and what is left; [`times`] are what something took
//! - [`job`] draws through the client library, [`detached_jobs`] through the command, [`pixels`] looks at pictures, [`chance`] and [`rounds`]
//!   say where and how often to strike
//! - [`http`] is a small HTTP client of the daemon's door
//! - [`misbehaviours`] are what the hostile worker can be told to do, [`storm`] when it is to end
//! - [`gpus`] are the pretended GPUs of a sandbox
//! - [`binaries`] finds the programs under test, [`turn`] keeps heavy tests from each other

pub mod binaries;
pub mod census;
pub mod chance;
pub mod daemon;
pub mod detached_jobs;
pub mod figures;
pub mod gpus;
pub mod http;
pub mod imagepool;
pub mod job;
pub mod lines;
pub mod misbehaviours;
pub mod pixels;
pub mod processes;
pub mod program;
pub mod record;
pub mod rounds;
pub mod sandbox;
pub mod storm;
pub mod times;
pub mod turn;
pub mod wait;
