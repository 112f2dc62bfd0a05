//! The journal: what the next daemon must know, in one file of the state folder.
//!
//! - [`handle`]: the [`Journal`](handle::Journal), through which orders reach the thread that owns the file
//! - [`orders`]: what can be written; [`contents`]: what is read at the start
//! - [`condition`]: whether it can be written
//! - `writer` is the thread: many orders, one commit, one `fdatasync`; after an error it opens the file again
//! - `panics` catches those of redb, which some damaged files cause
//! - `database` keeps the records in tables of redb; `values` are their fields as JSON, which later versions can read
//! - [`folder`] holds that file and the files of pictures; a damaged journal is moved aside there
//! - [`latents`] are those of running jobs, in files that nothing waits for
//! - [`lease`] keeps the ids of jobs ahead of those in use

pub mod condition;
pub mod contents;
mod database;
pub mod folder;
pub mod handle;
pub mod latents;
pub mod lease;
pub mod orders;
mod panics;
#[cfg(test)]
mod power_loss;
#[cfg(test)]
mod samples;
mod values;
mod writer;
