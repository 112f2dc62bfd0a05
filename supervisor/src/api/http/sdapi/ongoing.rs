//! The requests that are being drawn, for the requests of their clients that look at them or end them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use ipc_protocol::ids::JobId;
use ipc_protocol::units::PictureSize;
use tokio::sync::watch;

use crate::api::http::encoder::FileForm;

/// The requests that are being drawn, the oldest first.
#[derive(Debug, Default)]
pub(super) struct OngoingDrawings(Mutex<DrawingTable>);

#[derive(Debug, Default)]
struct DrawingTable {
    next: u64,
    drawings: BTreeMap<u64, OngoingDrawing>,
}

/// One request that is being drawn.
#[derive(Debug, Clone)]
pub(super) struct OngoingDrawing {
    user: String,
    /// Number of its pictures.
    pub count: u32,
    /// The form of its files.
    pub form: FileForm,
    /// Its jobs, once it has become some.
    pub jobs: Option<DrawingJobs>,
    /// The jobs that its client has skipped.
    pub skipped: BTreeSet<JobId>,
    interrupt: watch::Sender<bool>,
}

/// The jobs of a request.
#[derive(Debug, Clone)]
pub(super) struct DrawingJobs {
    /// One for each picture.
    pub jobs: Vec<JobId>,
    /// The size that is drawn.
    pub size: PictureSize,
}

/// Keeps a request in the table until it is dropped.
#[derive(Debug)]
pub(super) struct DrawingEntry {
    table: Arc<OngoingDrawings>,
    id: u64,
    interrupted: watch::Receiver<bool>,
}

impl OngoingDrawings {
    /// Enters a request of `user`.
    pub fn enter(self: &Arc<Self>, user: &str, count: u32, form: FileForm) -> DrawingEntry {
        let (interrupt, interrupted) = watch::channel(false);
        let drawing = OngoingDrawing {
            user: user.to_owned(),
            count,
            form,
            jobs: None,
            skipped: BTreeSet::new(),
            interrupt,
        };
        let mut table = self.lock();
        let id = table.next;
        table.next += 1;
        table.drawings.insert(id, drawing);
        DrawingEntry {
            table: Arc::clone(self),
            id,
            interrupted,
        }
    }

    /// The requests of `user`, the oldest first.
    pub fn of(&self, user: &str) -> Vec<OngoingDrawing> {
        let table = self.lock();
        let own = table
            .drawings
            .values()
            .filter(|drawing| drawing.user == user);
        own.cloned().collect()
    }

    /// Notes that `user` skips a job.
    pub fn skip(&self, user: &str, job: JobId) {
        let mut table = self.lock();
        let mut own = table
            .drawings
            .values_mut()
            .filter(|drawing| drawing.user == user);
        if let Some(drawing) = own.find(|drawing| drawing.has(job)) {
            drawing.skipped.insert(job);
        }
    }

    fn lock(&self) -> MutexGuard<'_, DrawingTable> {
        self.0.lock().expect("no holder of this lock can panic")
    }
}

impl OngoingDrawing {
    /// Ends it: its client gets the pictures that are finished.
    pub fn interrupt(&self) {
        self.interrupt.send_replace(true);
    }

    /// Whether it is being ended.
    pub fn is_interrupted(&self) -> bool {
        *self.interrupt.borrow()
    }

    fn has(&self, job: JobId) -> bool {
        self.jobs
            .as_ref()
            .is_some_and(|jobs| jobs.jobs.contains(&job))
    }
}

impl DrawingEntry {
    /// Notes the jobs that the request became.
    pub fn started(&self, jobs: DrawingJobs) {
        if let Some(drawing) = self.table.lock().drawings.get_mut(&self.id) {
            drawing.jobs = Some(jobs);
        }
    }

    /// Waits until the client ends the request.
    pub async fn interrupted(&mut self) {
        // The sender is in the table as long as this entry.
        let _ = self
            .interrupted
            .wait_for(|is_interrupted| *is_interrupted)
            .await;
    }

    /// Whether the client has skipped a job.
    pub fn is_skipped(&self, job: JobId) -> bool {
        let table = self.table.lock();
        let drawing = table.drawings.get(&self.id);
        drawing.is_some_and(|drawing| drawing.skipped.contains(&job))
    }
}

impl Drop for DrawingEntry {
    fn drop(&mut self) {
        self.table.lock().drawings.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_user_sees_and_ends_its_own_requests_only() {
        let table = Arc::new(OngoingDrawings::default());
        let mut first = table.enter("a", 2, FileForm::PNG);
        let second = table.enter("b", 1, FileForm::PNG);
        first.started(DrawingJobs {
            jobs: vec![JobId(1), JobId(2)],
            size: PictureSize {
                width: 64,
                height: 64,
            },
        });
        table.skip("b", JobId(2));
        assert!(!first.is_skipped(JobId(2)));
        table.skip("a", JobId(2));
        assert!(first.is_skipped(JobId(2)) && !first.is_skipped(JobId(1)));
        let own = table.of("a");
        assert_eq!(own.len(), 1);
        own[0].interrupt();
        first.interrupted().await;
        assert!(!table.of("b")[0].is_interrupted());
        drop((first, second));
        assert!(table.of("a").is_empty() && table.of("b").is_empty());
    }
}
