//! Questions about the state: functions that change nothing.
//!
//! Nothing here can change it.

pub(crate) mod admission;
pub(crate) mod deadline;
pub(crate) mod explain;
pub(crate) mod idle;
pub(crate) mod overtaking;
pub(crate) mod parameters;
pub(crate) mod quota;
pub(crate) mod readiness;
pub(crate) mod room;
pub(crate) mod snapshot;
pub(crate) mod standing;
pub(crate) mod waiting;
pub(crate) mod wants;
