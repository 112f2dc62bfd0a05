//! The mark of the cancelled job, checked between steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ipc_protocol::ids::JobId;

/// The value for no job; job ids begin at 1.
const NOBODY: u64 = 0;

/// The id of the cancelled job. The thread that reads the socket sets it, the one that computes reads it.
#[derive(Debug, Clone, Default)]
pub struct CancelMark(Arc<AtomicU64>);

impl CancelMark {
    /// Marks a job as cancelled. An older mark is replaced; its job has ended.
    pub fn set(&self, job: JobId) {
        self.0.store(job.0, Ordering::Release);
    }

    /// Tells whether this job is cancelled.
    pub fn is_set_for(&self, job: JobId) -> bool {
        job.0 != NOBODY && self.0.load(Ordering::Acquire) == job.0
    }
}
