//! The mind of the image pool: events in, actions out. No clock, no IO, no lock, no randomness.
//!
//! ```text
//!                    what happened                    what to do about it
//!  driver ── Event ──▶ pool.handle(now, event, &mut actions) ── Action ──▶ driver
//!     ▲                                                                      │
//!     └── Event::DeadlineReached at pool.next_deadline() ◀───────────────────┘
//!
//!  registry   which models exist, what each allows and needs
//!  admission  may a request enter, and as which jobs
//!  queue      who is next: lost work first, then classes, then shares of users
//!  placement  which idle worker, which new worker, who has to leave for it
//!  budget     what each device may promise, and to whom it did
//!  worker     one process from its start to its reaped exit
//!  restart    when a model that failed may be tried again
//!  watch      whether a worker without progress hangs
//!  stop       ask, terminate, kill: as data
//! ```

mod action;
mod admission;
mod aftermath;
mod blame;
mod budget;
mod cancel;
mod changes;
mod deadlines;
mod drain;
mod ending;
mod event;
mod explain;
mod growth;
mod job;
mod model;
mod moment;
mod operator;
mod parameters;
mod placement;
mod pool;
mod progress;
mod quarantine;
mod queue;
mod registry;
mod restart;
mod room;
mod settings;
mod snapshot;
#[cfg(test)]
mod states;
mod stop;
mod turn;
mod watch;
mod worker;

pub use action::{
    Accepted, Action, Notice, Outcome, Parameters, PictureFacts, Progress, Run, Start, StartReason,
    StopReason,
};
pub use drain::draining;
pub use event::{
    CpuTime, Drain, Event, Exit, Fault, Footprint, KilledBy, Phases, StartFault, Target, Ticket,
};
pub use explain::Plan;
pub use moment::Moment;
pub use pool::{DeviceLimit, Pool};
pub use registry::{
    Activation, CudaResidency, Files, GuidanceRule, ModelSpec, Need, Registry, SizeRule,
};
pub use settings::{Patience, Settings};
pub use snapshot::Snapshot;
