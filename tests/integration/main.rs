//! Real processes, one file per promise.

mod arithmetic;
mod cancel;
mod cold_start;
mod demo;
mod generate;
mod isolation;
mod ledger;
mod library;
mod manifest;
mod memory;
mod operators;
mod private_pool;
mod record;
mod refusals;
mod replay;
mod shrinking;
mod threads;
mod verify;
