//! Single changes of the state, each with the actions it takes.

pub(crate) mod blame;
pub(crate) mod end_job;
pub(crate) mod end_request;
pub(crate) mod end_worker;
pub(crate) mod footprint;
pub(crate) mod run;
pub(crate) mod start;
