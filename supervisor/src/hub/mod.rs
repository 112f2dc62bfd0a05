//! Where models come from: a hub or a mirror of one, looked up, transferred, checked and kept.
//!
//! ```text
//!  source     which files of which repositories make a model, and under which licence
//!    │ fetch  one model at a time (lock), in a process of its own, with the token
//!    ├─ lookup    revision → commit, and each file's size and digest, from the listing
//!    ├─ transfer  bytes into NAME.part, from where they stopped; digest checked, or deleted
//!    └─ store     published in one rename, with a record of every file
//!  verify     reads a published model again
//! ```
//!
//! - `http` is the conversation: the token for the endpoint alone, answers of bounded size
//! - [`event`] is what a fetch tells, a line each; [`trouble`] why one ended
//! - [`digest`], [`name`] and [`token`] are the three things that are never taken on trust

pub mod digest;
pub mod event;
pub mod fetch;
mod http;
mod listing;
pub mod lock;
mod lookup;
pub mod name;
pub mod source;
pub mod store;
pub mod token;
mod transfer;
pub mod trouble;
pub mod verify;
