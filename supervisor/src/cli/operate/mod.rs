//! The operator's commands: [`status`] prints, [`verbs`] change; [`names`] parses the names they take.

pub mod names;
pub mod status;
pub mod verbs;
