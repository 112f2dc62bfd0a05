//! Processes: starting, watching, measuring and ending them.
//!
//! - [`spawn`] starts workers, private daemons, the fetch program and probes; no other file starts processes
//! - [`watch`] sends signals to a worker and waits for its end
//! - [`cpu`] measures a worker's CPU time
//! - [`children`] tells the processes that this one started from those that it adopted
//! - [`descendants`] kills the child processes that dead workers have left
//! - [`exit`] turns an exit status into a code, or a signal and its sender
//! - [`groups`] gives each worker a control group, [`memory_limit`] a limit of its process where that is not possible
//! - [`kernel_kills`] attributes deaths to the kernel's out-of-memory killer
//! - [`signals`] turns a signal into an error, and ends this process with its parent
//! - [`stderr`] keeps the last lines that a worker wrote
//! - [`fetch`] runs the fetch program and reads its events; [`exporter`] runs it to send traces
//! - [`hook`] runs what the settings name before and after the use of a GPU
//! - [`identity`] tells a process from a later one with the same pid
//! - [`stat`] reads the state of a process from the kernel
//! - [`programs`] finds our other programs
//! - [`descriptors`] closes inherited file descriptors; [`reserve`] keeps some for the start of a worker

pub mod children;
pub mod cpu;
pub mod descendants;
pub mod descriptors;
pub mod exit;
pub mod exporter;
pub mod fetch;
pub mod groups;
pub mod hook;
pub mod identity;
pub mod kernel_kills;
pub mod memory_limit;
pub mod programs;
pub mod reserve;
pub mod signals;
pub mod spawn;
pub mod stat;
pub mod stderr;
pub mod watch;
