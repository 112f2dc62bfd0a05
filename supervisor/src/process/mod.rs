//! Processes as the kernel sees them: how they start, who they are, how they ended.
//!
//! - [`spawn`] starts workers, private daemons and the fetch program, and is the only file that does
//! - [`watch`] waits for a worker's end and sends it signals while it lives
//! - [`cpu`] reads how much CPU time a worker got
//! - [`descendants`] ends what dead workers left behind
//! - [`exit`] says how a process ended
//! - [`kernel_kills`] tells which deaths were the kernel's, out of memory
//! - [`signals`] makes errors of signals
//! - [`stderr`] keeps the last lines a worker wrote
//! - [`fetch`] runs the fetch program and reads its events
//! - [`identity`] tells a process from a later one with the same pid
//! - [`stat`] reads what the kernel says of a process that runs
//! - [`programs`] finds our other programs
//! - [`descriptors`] closes what our own starter had left open

pub mod cpu;
pub mod descendants;
pub mod descriptors;
pub mod exit;
pub mod fetch;
pub mod identity;
pub mod kernel_kills;
pub mod programs;
pub mod signals;
pub mod spawn;
pub mod stat;
pub mod stderr;
pub mod watch;
