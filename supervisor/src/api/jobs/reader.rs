//! The updates of one job, for any number of readers who may come late.

use std::sync::{Arc, Mutex, MutexGuard};

use pool::AcceptedJobs;
use tokio::sync::watch;

use super::ring::{JobPreview, RingCursor, RingEnd, TrackedUpdate, UpdateRing};

/// The updates of one job: one writer, any number of readers. It lives as long as its record or a reader.
#[derive(Debug)]
pub(super) struct JobLog {
    ring: Mutex<UpdateRing>,
    changed: watch::Sender<()>,
}

impl Default for JobLog {
    fn default() -> Self {
        Self {
            ring: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }
}

impl JobLog {
    pub fn push(&self, update: TrackedUpdate) {
        self.change(|ring| ring.push(update));
    }

    pub fn accept(&self, accepted: Arc<AcceptedJobs>) {
        self.change(|ring| ring.accept(accepted));
    }

    pub fn end(&self, end: RingEnd) {
        self.change(|ring| ring.end(end));
    }

    /// The newest preview, until the job ends.
    pub fn preview(&self) -> Option<JobPreview> {
        self.ring().preview().cloned()
    }

    fn change(&self, change: impl FnOnce(&mut UpdateRing)) {
        change(&mut self.ring());
        self.changed.send_replace(());
    }

    fn ring(&self) -> MutexGuard<'_, UpdateRing> {
        self.ring.lock().expect("no holder of this lock can panic")
    }
}

/// A reader of one job's updates. It begins with the oldest update that is kept and goes on with live ones. A slow
/// reader misses steps and previews, never the end.
#[derive(Debug)]
pub struct JobReader {
    log: Arc<JobLog>,
    changed: watch::Receiver<()>,
    cursor: RingCursor,
}

impl JobReader {
    pub(super) fn new(log: Arc<JobLog>) -> Self {
        Self {
            changed: log.changed.subscribe(),
            log,
            cursor: RingCursor::default(),
        }
    }

    /// Waits for the next update; `None` after the end. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> Option<TrackedUpdate> {
        while !self.cursor.is_at_end() {
            self.changed.mark_unchanged();
            let update = self.log.ring().read(&mut self.cursor);
            if update.is_some() {
                return update;
            }
            // The sender is in `log`, so this cannot fail.
            self.changed.changed().await.ok()?;
        }
        None
    }
}
