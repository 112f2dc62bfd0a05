//! What the pool and its driver say to each other, and the ids, times and settings they say it in.

pub(crate) mod action;
pub(crate) mod cause;
pub(crate) mod event;
pub(crate) mod moment;
pub(crate) mod notice;
pub(crate) mod reasons;
pub(crate) mod registry;
pub(crate) mod settings;
pub(crate) mod turn;
