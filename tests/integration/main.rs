//! Real processes, one file per promise.

mod affinity;
mod arithmetic;
mod broken;
mod cancel;
mod cold_start;
mod demo;
mod fairness;
mod foreign_text;
mod generate;
mod isolation;
mod ledger;
mod library;
mod manifest;
mod memory;
mod operators;
mod outputs;
mod previews;
mod private_pool;
mod record;
mod refusals;
mod replay;
mod rights;
mod shrinking;
mod sockets;
mod threads;
mod verify;
