//! Real processes, one file per promise.

mod cancel;
mod cold_start;
mod demo;
mod generate;
mod isolation;
mod memory;
mod operators;
mod private_pool;
mod refusals;
mod threads;
