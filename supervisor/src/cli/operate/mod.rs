//! The operator's commands: [`status`] reads, [`verbs`] change; [`names`] parses what they are about.

pub mod names;
pub mod status;
pub mod verbs;
