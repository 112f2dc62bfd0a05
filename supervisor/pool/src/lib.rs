//! The mind of the image pool: events in, actions out. No clock, no IO, no lock, no randomness.
//!
//! ```text
//!                    what happened                    what to do about it
//!  driver ── Event ──▶ pool.handle(now, event, &mut actions) ── Action ──▶ driver
//!     ▲                                                                      │
//!     └── Event::DeadlineReached at pool.next_deadline() ◀───────────────────┘
//!
//!  pool        Pool: handle, next_deadline, the public questions
//!  events/     what each event changes                            &mut State, &mut Turn
//!  settle/     everything that is due after an event              &mut State, &mut Turn
//!  steps/      single changes, each with its actions              &mut State, &mut Turn
//!  questions/  what can be asked; nothing here changes anything   &State
//!  state/      everything the pool knows, with its invariants
//!  words/      events, actions, settings, registry, time
//! ```
//!
//! Each floor imports the floors below it, never one above.

#![allow(
    missing_docs,
    reason = "used inside this workspace only, where a name that says all needs no sentence"
)]

mod events;
mod pool;
mod questions;
mod settle;
mod state;
#[cfg(test)]
mod states;
mod steps;
mod words;

pub use ipc_protocol::messages::client::Target;
pub use ipc_protocol::messages::worker::JobFault;
pub use pool::Pool;
pub use questions::explain::Plan;
pub use questions::snapshot::Snapshot;
pub use questions::standing::draining;
pub use state::budget::{DeviceLimit, DeviceObstacle};
pub use words::action::{
    AcceptedJobs, Action, Outcome, Parameters, PictureFacts, Progress, Run, Start,
};
pub use words::end::{EndClass, how_ended};
pub use words::event::{
    CpuTime, Drain, Event, Exit, Footprint, KilledBy, Phases, StartFault, Ticket,
};
pub use words::lasting::{LastingFact, MeasuredNeed, QuarantinedRequest};
pub use words::moment::Moment;
pub use words::notice::Notice;
pub use words::past::{JobPast, PastLoss, RestoredJob};
pub use words::quota::{Quotas, UserQuota};
pub use words::reasons::{StartReason, StopReason};
pub use words::registry::{
    Activation, CudaNeed, FOLDER_IDENTITY, Files, GuidanceRule, ModelSpec, Need, Registry, SizeRule,
};
pub use words::settings::{Patience, Settings, TruceTerms};
pub use words::user::is_job_of;
