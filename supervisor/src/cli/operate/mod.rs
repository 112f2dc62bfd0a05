//! The operator's commands.
//!
//! - [`status`], [`jobs`] and [`last_crash`] print, [`verbs`] change; [`names`] parses the names that they take

pub mod jobs;
pub mod last_crash;
pub mod names;
pub mod status;
pub mod verbs;
