//! The operator's commands.
//!
//! - [`status`] and [`jobs`] print, [`verbs`] change; [`names`] parses the names that they take

pub mod jobs;
pub mod names;
pub mod status;
pub mod verbs;
