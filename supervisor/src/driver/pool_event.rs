//! Events of the pool for clients that watch it.

use ipc_protocol::failure::FailureKind;
use ipc_protocol::ids::{JobId, ModelKey};
use pool::Notice;

/// Events that a slow client may be behind; older ones are lost.
pub(super) const EVENTS_KEPT: usize = 256;

/// An event of the pool, for clients that watch it.
#[derive(Debug, Clone)]
pub enum PoolEvent {
    /// The pool decided something, or noticed it.
    Noticed(Notice),
    /// A request became this job.
    JobAccepted {
        /// The job.
        job: JobId,
        /// Its model.
        model: ModelKey,
    },
    /// A job has ended.
    JobEnded {
        /// The job.
        job: JobId,
        /// Its model.
        model: ModelKey,
        /// The kind of its failure; `None` if it has a picture.
        failure: Option<FailureKind>,
    },
}
