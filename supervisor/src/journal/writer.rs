//! The thread that owns the journal's file.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ipc_protocol::ids::JobId;
use ipc_protocol::untrusted::Untrusted;
use tokio::runtime::Handle as Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::condition::{JournalCondition, NotWritten};
use super::contents::JournalContents;
use super::database::{DatabaseFault, JournalDatabase};
use super::folder::JournalFolder;
use super::orders::JournalOrder;
use super::panics;
use crate::clock::Clock;
use crate::telemetry;

/// Orders in one commit.
const BATCH_MAX: usize = 512;
/// Orders that are kept while the disk fails; the oldest are dropped. A restart without one of them draws a job again
/// that had ended, or knows a fact less.
const BACKLOG_MAX: usize = 4096;
/// Pause before a failed commit is tried again, if no order comes before.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Told once an order is on the disk, or cannot be.
type Waiting = oneshot::Sender<Result<(), NotWritten>>;

/// An order on its way to the thread.
#[derive(Debug)]
pub(super) enum QueuedOrder {
    Write {
        order: JournalOrder,
        done: Option<Waiting>,
    },
    /// Write what is left, and close the file.
    Finish(oneshot::Sender<()>),
}

/// The thread's state.
pub(super) struct JournalWriter {
    folder: JournalFolder,
    /// `None` after an error, until the file can be opened again.
    database: Option<JournalDatabase>,
    backlog: VecDeque<JournalOrder>,
    /// Ids up to this one may be in use.
    last_id: JobId,
    condition: Arc<JournalCondition>,
    clock: Clock,
}

impl JournalWriter {
    /// Opens the file and reads it. A damaged one is moved aside.
    ///
    /// # Errors
    /// Another daemon uses the file. For any other error the journal begins without contents, and is tried again.
    pub fn open(
        folder: JournalFolder,
        condition: Arc<JournalCondition>,
        clock: Clock,
    ) -> Result<(Self, Option<JournalContents>), DatabaseFault> {
        let is_lost = folder.was_used() && !folder.has_database();
        let mut writer = Self {
            folder,
            database: None,
            backlog: VecDeque::new(),
            last_id: JobId(0),
            condition,
            clock,
        };
        let read = writer.reopen().and_then(|()| writer.read());
        let contents = match read {
            Ok(_) if is_lost => Some(JournalContents::lost(clock)),
            Ok(contents) => Some(contents),
            Err(DatabaseFault::InUse) => return Err(DatabaseFault::InUse),
            Err(DatabaseFault::Damaged(why)) => {
                writer.begin_anew(&why);
                let is_new = writer.database.is_some();
                is_new.then(|| JournalContents::lost(clock))
            }
            Err(DatabaseFault::Io(error)) => {
                writer.fails(&DatabaseFault::Io(error));
                None
            }
        };
        Ok((writer, contents))
    }

    /// Writes orders until the last handle is gone.
    pub fn run(mut self, mut orders: mpsc::Receiver<QueuedOrder>, runtime: &Runtime) {
        loop {
            let mut batch = Vec::new();
            let mut finish = None;
            let first = runtime.block_on(async {
                match self.backlog.is_empty() {
                    true => Some(orders.recv().await),
                    false => timeout(RETRY_PAUSE, orders.recv()).await.ok(),
                }
            });
            let is_closed = matches!(first, Some(None));
            let mut next = first.flatten();
            while let Some(order) = next {
                match order {
                    QueuedOrder::Write { order, done } => batch.push((order, done)),
                    QueuedOrder::Finish(done) => {
                        finish = Some(done);
                        break;
                    }
                }
                next = (batch.len() < BATCH_MAX)
                    .then(|| orders.try_recv().ok())
                    .flatten();
            }
            self.write(batch);
            if let Some(done) = finish {
                // Closes the file, so that the next daemon need not repair it.
                drop(self.database.take());
                let _ = done.send(()); // Whoever waited too long is gone.
                return;
            }
            if is_closed {
                return;
            }
        }
    }

    /// Writes the backlog and a batch in one commit, and tells how it went.
    fn write(&mut self, batch: Vec<(JournalOrder, Option<Waiting>)>) {
        let (orders, waiting): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let all: Vec<JournalOrder> = self.backlog.drain(..).chain(orders).collect();
        if all.is_empty() {
            return;
        }
        self.note_ids(&all);
        let committed = self.commit(&all);
        let answer = match &committed {
            Ok(()) => {
                self.works();
                all.iter().for_each(|order| self.remove_files(order));
                Ok(())
            }
            Err(fault) => {
                let why = self.fails(fault);
                all.into_iter().for_each(|order| self.keep_for_later(order));
                Err(why)
            }
        };
        for done in waiting.into_iter().flatten() {
            let _ = done.send(answer.clone()); // Whoever waited too long is gone.
        }
    }

    /// Notes the ids that are in use after these orders.
    fn note_ids(&mut self, orders: &[JournalOrder]) {
        for order in orders {
            match order {
                JournalOrder::Accept(request) => {
                    let last = request.accepted.jobs.last().copied();
                    self.last_id = self.last_id.max(last.unwrap_or(JobId(0)));
                }
                JournalOrder::LeaseIds { last } => self.last_id = self.last_id.max(*last),
                JournalOrder::SettleIds { last } => self.last_id = *last,
                JournalOrder::End { .. }
                | JournalOrder::DropPixels { .. }
                | JournalOrder::Forget { .. }
                | JournalOrder::Remember(_) => {}
            }
        }
    }

    /// Removes the files of jobs that are not needed any longer.
    fn remove_files(&self, order: &JournalOrder) {
        match order {
            JournalOrder::DropPixels { job, .. } => self.folder.drop_pixels(*job),
            JournalOrder::Forget { jobs } => {
                for job in jobs {
                    self.folder.drop_pixels(*job);
                    self.folder.drop_latents(*job);
                }
            }
            JournalOrder::End { job, .. } => self.folder.drop_latents(*job),
            JournalOrder::Accept(_)
            | JournalOrder::Remember(_)
            | JournalOrder::LeaseIds { .. }
            | JournalOrder::SettleIds { .. } => {}
        }
    }

    /// Keeps an order that could not be written. A request is refused, and what may be on the disk of it is removed.
    fn keep_for_later(&mut self, order: JournalOrder) {
        let order = match order {
            JournalOrder::Accept(request) => JournalOrder::Forget {
                jobs: request.accepted.jobs.clone(),
            },
            order @ (JournalOrder::End { .. }
            | JournalOrder::DropPixels { .. }
            | JournalOrder::Forget { .. }
            | JournalOrder::Remember(_)
            | JournalOrder::LeaseIds { .. }
            | JournalOrder::SettleIds { .. }) => order,
        };
        if self.backlog.len() == BACKLOG_MAX {
            self.backlog.pop_front();
        }
        self.backlog.push_back(order);
    }

    /// Commits orders, after opening the file if an error closed it. A damaged file is moved aside.
    fn commit(&mut self, orders: &[JournalOrder]) -> Result<(), DatabaseFault> {
        let first = self.try_commit(orders);
        let Err(DatabaseFault::Damaged(why)) = first else {
            return first;
        };
        self.begin_anew(&why);
        let last = self.last_id;
        self.try_commit(&[JournalOrder::LeaseIds { last }])?;
        self.try_commit(orders)
    }

    fn try_commit(&mut self, orders: &[JournalOrder]) -> Result<(), DatabaseFault> {
        self.reopen()?;
        let now_ms = self.clock.unix_ms();
        let database = self.database.take().expect("it was just opened");
        let (database, committed) = guarded(move || {
            let committed = database.commit(orders, now_ms);
            // After an error redb wants the file to be opened again.
            Ok((committed.is_ok().then_some(database), committed))
        })?;
        self.database = database;
        committed
    }

    /// Opens the file unless it is open.
    fn reopen(&mut self) -> Result<(), DatabaseFault> {
        if self.database.is_none() {
            let path = self.folder.database();
            let database = guarded(move || JournalDatabase::open(&path))?;
            self.folder.sync().map_err(DatabaseFault::Io)?;
            self.database = Some(database);
        }
        Ok(())
    }

    /// Reads everything, and removes records and files that nothing needs.
    fn read(&mut self) -> Result<JournalContents, DatabaseFault> {
        let now_ms = self.clock.unix_ms();
        let database = self
            .database
            .take()
            .ok_or_else(|| DatabaseFault::Io(std::io::Error::other("the journal is not open")))?;
        let (database, mut contents) = guarded(move || {
            let contents = database.read(now_ms)?;
            Ok((database, contents))
        })?;
        self.database = Some(database);
        self.backlog.extend(contents.prune());
        self.folder.sweep(
            |job| contents.needs_pixels(job),
            |job| contents.is_unanswered(job),
        );
        Ok(contents)
    }

    /// Moves a damaged file aside, and begins a new one.
    fn begin_anew(&mut self, why: &str) {
        self.database = None;
        let path = self.folder.database();
        let begun = self.folder.move_aside(&self.clock.date());
        match begun {
            Ok(aside) => {
                telemetry::job_journal::moved_aside(&path, &aside, &why);
                self.condition.moved_aside(&aside, &why);
                if let Err(fault) = self.reopen() {
                    self.fails(&fault);
                }
            }
            Err(error) => {
                self.fails(&DatabaseFault::Io(error));
            }
        }
    }

    /// Notes that the file cannot be written, and tells it once.
    fn fails(&mut self, fault: &DatabaseFault) -> NotWritten {
        self.database = None;
        let path = self.folder.database();
        let (why, is_new) = self.condition.fails(&path, fault);
        if is_new {
            telemetry::job_journal::failing(&path, fault);
        }
        why
    }

    fn works(&self) {
        if self.condition.works() {
            telemetry::job_journal::works_again(&self.folder.database());
        }
    }
}

/// Runs something that uses redb, whose code panics on some damaged files.
fn guarded<T>(run: impl FnOnce() -> Result<T, DatabaseFault>) -> Result<T, DatabaseFault> {
    panics::caught(run).unwrap_or_else(|said| {
        let why = format!("reading it fails: {}", Untrusted::new(&said));
        Err(DatabaseFault::Damaged(why))
    })
}
