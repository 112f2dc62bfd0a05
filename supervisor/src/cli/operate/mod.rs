//! The operator's commands.
//!
//! - [`status`], [`jobs`], [`available`], [`last_crash`], [`logs`] and [`events`] print, [`verbs`] change; [`names`] parses
//!   the names that they take, [`duration`] prints times

pub mod available;
pub mod duration;
pub mod events;
pub mod jobs;
pub mod last_crash;
pub mod logs;
pub mod names;
pub mod status;
pub mod verbs;
