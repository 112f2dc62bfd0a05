//! The job that is no longer wanted, looked at between steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ipc_protocol::ids::JobId;

/// The value of no job: job ids begin at 1.
const NOBODY: u64 = 0;

/// Set by the thread that reads the socket, read by the one that computes.
#[derive(Debug, Clone, Default)]
pub struct CancelMark(Arc<AtomicU64>);

impl CancelMark {
    /// Marks a job; it replaces an older mark, whose job has ended by then.
    pub fn set(&self, job: JobId) {
        self.0.store(job.0, Ordering::Release);
    }

    /// Whether this job is marked.
    pub fn is_set_for(&self, job: JobId) -> bool {
        job.0 != NOBODY && self.0.load(Ordering::Acquire) == job.0
    }
}
