//! Facts that outlive this daemon: the next one gets them back as events.

use std::time::Duration;

use ipc_protocol::ids::{JobId, ModelKey};
use ipc_protocol::units::{Mebibytes, PictureSize};

use crate::words::past::JobPast;

/// A fact for the next daemon. The driver writes it down soon, and nothing waits for that.
#[derive(Debug, Clone, PartialEq)]
pub enum LastingFact {
    /// A detached job lost its worker and waits again.
    JobLost { job: JobId, past: JobPast },
    /// A request is in quarantine.
    Quarantined(QuarantinedRequest),
    /// These requests are not in quarantine any longer, by the names of their fingerprints.
    Released { names: Vec<String> },
    /// A worker of a model held more memory than any before it.
    NeedMeasured(MeasuredNeed),
}

/// A request in quarantine: everything but its seed.
#[derive(Debug, Clone, PartialEq)]
pub struct QuarantinedRequest {
    /// The name of its fingerprint, which `imagepool quarantine list` prints.
    pub name: String,
    /// The user of the job; empty if that is not known.
    pub user: String,
    /// The digest of its model.
    pub digest: String,
    pub prompt: String,
    /// The negative prompt.
    pub negative: Option<String>,
    pub size: PictureSize,
    pub steps: u32,
    pub guidance: f32,
    /// How each worker died.
    pub deaths: Vec<String>,
    /// How long it has been there.
    pub age: Duration,
}

/// The memory that workers of a model were seen to hold.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasuredNeed {
    pub model: ModelKey,
    /// The digest of the model's weights then.
    pub digest: String,
    /// The largest part of the host that a worker with usual jobs held.
    pub host: Mebibytes,
    /// The largest part of its accelerator.
    pub device: Mebibytes,
}
