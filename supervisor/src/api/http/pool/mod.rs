//! The pool's own routes under `/v1/pool/`.
//!
//! - `status`: the report of everything; `models`: operators' verbs
//! - `jobs`: the caller's jobs, their progress and pictures
//! - `events`: what happens in the pool, as it happens

pub mod events;
pub mod models;
pub mod status;
