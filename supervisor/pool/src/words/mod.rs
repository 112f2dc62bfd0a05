//! The messages between pool and driver, with their ids, times and settings.

pub(crate) mod action;
pub(crate) mod cause;
pub(crate) mod end;
pub(crate) mod event;
pub(crate) mod lasting;
pub(crate) mod moment;
pub(crate) mod new_request;
pub(crate) mod notice;
pub(crate) mod past;
pub(crate) mod quota;
pub(crate) mod reasons;
pub(crate) mod registry;
pub(crate) mod settings;
pub(crate) mod turn;
pub(crate) mod user;
