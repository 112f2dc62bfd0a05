//! The contents of a journal at the start of a daemon.

use std::collections::BTreeMap;
use std::time::Duration;

use ipc_protocol::ids::JobId;
use pool::{JobPast, MeasuredNeed, QuarantinedRequest};

use super::orders::{JournaledEnd, JournaledRequest, PixelsKept};
use crate::clock::Clock;

/// Everything that an earlier daemon left.
#[derive(Debug, Default)]
pub struct JournalContents {
    /// The requests with at least one job that is not forgotten, the oldest first.
    pub requests: Vec<RememberedRequest>,
    /// The requests in quarantine.
    pub quarantine: Vec<QuarantinedRequest>,
    /// The memory that workers were seen to hold.
    pub needs: Vec<MeasuredNeed>,
    /// Ids of jobs up to this one were used.
    pub last_id: u64,
}

impl JournalContents {
    /// The contents of a journal that cannot be read. The ids that it held are not known, and lower than the milliseconds
    /// since 1970: they were counted from one, or from an earlier such moment, and no pool accepts a job each millisecond.
    pub fn lost(clock: Clock) -> Self {
        Self {
            last_id: clock.unix_ms(),
            ..Self::default()
        }
    }
}

/// A request of an earlier daemon, with its jobs that are not forgotten.
#[derive(Debug)]
pub struct RememberedRequest {
    pub request: JournaledRequest,
    pub jobs: BTreeMap<JobId, RememberedJob>,
}

/// A job of an earlier daemon.
#[derive(Debug)]
pub enum RememberedJob {
    /// It has no answer yet.
    Unanswered(JobPast),
    Ended {
        end: JournaledEnd,
        /// Time since its end.
        age: Duration,
        pixels: PixelsKept,
    },
}
