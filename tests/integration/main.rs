//! Real processes, one file per promise.

mod arithmetic;
mod cancel;
mod cold_start;
mod demo;
mod generate;
mod isolation;
mod library;
mod manifest;
mod memory;
mod operators;
mod private_pool;
mod refusals;
mod replay;
mod threads;
mod verify;
