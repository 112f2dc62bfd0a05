//! Events of the pool for clients that watch it.

use ipc_protocol::failure::FailureKind;
use ipc_protocol::ids::{JobId, ModelKey};
use pool::Notice;

/// An event of the pool, for clients that watch it.
#[derive(Debug)]
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
