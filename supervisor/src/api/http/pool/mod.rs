//! The pool's own routes under `/v1/pool/`.
//!
//! - `status`: the report of everything; `models`: operators' verbs
//! - `jobs`: the caller's jobs and their pictures; `job_events`: the progress of one
//! - `events`: what happens in the pool, as it happens

pub mod events;
pub mod job_events;
pub mod jobs;
pub mod models;
pub mod status;
