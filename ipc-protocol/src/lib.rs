//! The protocol between clients, the supervisor and its workers.
//!
//! ```text
//!  client ──ToPool──▶ supervisor ──ToWorker──▶ worker
//!  client ◀─FromPool─ supervisor ◀─FromWorker─ worker
//!                         └────── segment ───────┘   (latents, pictures)
//! ```
//!
//! From the words up: [`ids`], [`units`], [`arithmetic`], [`about`], [`family`], [`latents`], [`mark`], [`request`], [`reading`], [`failure`] and [`status`]
//! are what is talked about, and [`untrusted`] is how another's text is printed; [`messages`] are the sentences; [`codec`] turns them into bytes, [`frame`] bounds the bytes,
//! [`connection`] moves them. [`exit_code`] says why a worker exited. [`segment`] is the memory a worker shares with the supervisor, and
//! [`client`] is the library for programs on the same machine, which finds a daemon in one of the [`folders`].
//!
//! `PROTOCOL.md` beside this crate tells the same for people.

#![warn(missing_docs)]

pub mod about;
pub mod arithmetic;
pub mod client;
pub mod codec;
pub mod connection;
pub mod exit_code;
pub mod failure;
pub mod family;
pub mod folders;
pub mod frame;
pub mod ids;
pub mod latents;
pub mod mark;
pub mod messages;
pub mod reading;
pub mod request;
pub mod segment;
pub mod status;
pub mod units;
pub mod untrusted;
pub mod version;
