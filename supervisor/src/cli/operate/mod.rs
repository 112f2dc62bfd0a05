//! The operator's commands.
//!
//! - [`status`], [`jobs`] and [`last_crash`] print, [`verbs`] change; [`names`] parses the names that they take,
//!   [`duration`] prints times

pub mod duration;
pub mod jobs;
pub mod last_crash;
pub mod names;
pub mod status;
pub mod verbs;
