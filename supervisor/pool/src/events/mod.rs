//! The changes of each event, one file for each source of events.

pub(crate) mod deadline;
pub(crate) mod device;
pub(crate) mod exit;
pub(crate) mod files;
pub(crate) mod operator;
pub(crate) mod registry;
pub(crate) mod request;
pub(crate) mod restored;
pub(crate) mod worker;
