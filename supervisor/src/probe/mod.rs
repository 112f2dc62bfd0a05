//! Measures the machine: memory of the host, of processes and of GPUs; makes no decisions.
//!
//! - [`host`] measures the host's memory and that of processes there
//! - [`gpu`] is an answer about the GPUs, as the probing process prints it
//! - [`nvml`] asks the driver's library; only the probing process does that, because the library can hang
//! - [`visible`] selects and numbers the GPUs that this daemon may use
//! - [`share`] tells the memory of our workers on a GPU from that of others

pub mod gpu;
pub mod host;
pub mod nvml;
#[cfg(test)]
pub(crate) mod sample;
pub mod share;
pub mod visible;

pub use host::{HeldMemory, held_bytes, host_memory};
