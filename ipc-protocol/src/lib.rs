//! The protocol between clients, the supervisor and its workers, and the memory that workers share.
//!
//! ```text
//!  client ──ToPool──▶ supervisor ──ToWorker──▶ worker
//!  client ◀─FromPool─ supervisor ◀─FromWorker─ worker
//!                         └────── segment ───────┘   (latents, pictures)
//! ```
//!
//! - The types in messages: [`ids`], [`units`], [`arithmetic`], [`about`], [`family`], [`latents`], [`mark`],
//!   [`request`], [`reading`], [`failure`], [`status`], [`job`], [`event`], [`log`] and [`obituary`]. [`untrusted`]
//!   prints text of other programs safely.
//! - The messages themselves: [`messages`]. [`codec`] encodes them, [`frame`] bounds their size, and
//!   [`connection`] sends and receives them.
//! - The end of a worker: [`exit_code`].
//! - The memory that a worker shares with the supervisor: [`segment`].
//! - The library for programs on the same machine: [`client`]. It finds the daemon in one of the [`folders`].
//!
//! `PROTOCOL.md` in this package describes the protocol for readers.

#![warn(missing_docs)]

pub mod about;
pub mod arithmetic;
pub mod client;
mod client_error;
pub mod codec;
pub mod connection;
mod drawing;
pub mod event;
pub mod exit_code;
pub mod failure;
pub mod family;
pub mod folders;
pub mod frame;
pub mod ids;
pub mod job;
pub mod latents;
mod lines;
mod listing;
pub mod log;
pub mod mark;
pub mod messages;
pub mod obituary;
pub mod reading;
mod reconnect;
pub mod request;
pub mod sandbox;
pub mod segment;
pub mod status;
pub mod units;
pub mod untrusted;
pub mod version;
