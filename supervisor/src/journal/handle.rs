//! The way to the journal: orders go to its thread, and those who must know wait for the disk.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ipc_protocol::ids::JobId;
use tokio::runtime::Handle as Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::condition::{JournalCondition, NotWritten};
use super::contents::JournalContents;
use super::database::DatabaseFault;
use super::folder::JournalFolder;
use super::latents::JournaledLatents;
use super::orders::JournalOrder;
use super::writer::{JournalWriter, QueuedOrder};
use crate::clock::Clock;
use crate::telemetry;

/// Orders that may wait for the disk. A door waits for room, the loop does not.
const ORDERS_MAX: usize = 1024;
/// How long a door waits for the disk.
const COMMIT_MAX: Duration = Duration::from_secs(30);
/// How long writing the last orders may take after the loop has ended.
const FINISH_MAX: Duration = Duration::from_secs(5);

/// The journal. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Journal {
    orders: mpsc::Sender<QueuedOrder>,
    folder: JournalFolder,
    condition: Arc<JournalCondition>,
    dropped: Arc<AtomicU64>,
    /// Latents are being written.
    writes_latents: Arc<AtomicBool>,
}

/// Why no journal can be kept.
#[derive(Debug, thiserror::Error)]
pub enum NoJournal {
    /// Another daemon has it open.
    #[error(
        "the journal {0} belongs to a daemon that runs: stop that one, or choose another --state-dir"
    )]
    InUse(String),
    /// There is no thread for it.
    #[error("cannot start the thread of the journal: {0}")]
    NoThread(#[from] io::Error),
}

impl Journal {
    /// Opens the journal in a folder and starts its thread in the current runtime. Returns its contents; `None` if they
    /// cannot be read now.
    ///
    /// # Errors
    /// Another daemon uses it, or the kernel gives no thread.
    pub fn open(
        folder: JournalFolder,
        clock: Clock,
    ) -> Result<(Self, Option<JournalContents>), NoJournal> {
        let condition = Arc::new(JournalCondition::default());
        let path = folder.database();
        let opened = JournalWriter::open(folder.clone(), Arc::clone(&condition), clock);
        let (writer, contents) = opened.map_err(|fault| match fault {
            DatabaseFault::InUse | DatabaseFault::Damaged(_) | DatabaseFault::Io(_) => {
                NoJournal::InUse(path.display().to_string())
            }
        })?;
        let (orders, queue) = mpsc::channel(ORDERS_MAX);
        let runtime = Runtime::current();
        thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.run(queue, &runtime))?;
        let journal = Self {
            orders,
            folder,
            condition,
            dropped: Arc::default(),
            writes_latents: Arc::default(),
        };
        Ok((journal, contents))
    }

    /// Whether it works.
    pub fn condition(&self) -> Arc<JournalCondition> {
        Arc::clone(&self.condition)
    }

    /// Writes an order and waits until it is on the disk.
    ///
    /// # Errors
    /// It is not on the disk, or not known to be. What may be there of a request is removed later.
    pub async fn write(&self, order: JournalOrder) -> Result<(), NotWritten> {
        let (done, written) = oneshot::channel();
        let done = Some(done);
        let sent = async {
            let queued = QueuedOrder::Write { order, done };
            self.orders.send(queued).await.map_err(|_| self.ended())?;
            written.await.map_err(|_| self.ended())?
        };
        timeout(COMMIT_MAX, sent)
            .await
            .unwrap_or_else(|_| Err(self.too_slow()))
    }

    /// Writes an order soon; nothing waits for it. Returns false if the disk is too slow.
    pub fn tell(&self, order: JournalOrder) -> bool {
        let queued = QueuedOrder::Write { order, done: None };
        if self.orders.try_send(queued).is_ok() {
            return true;
        }
        let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
        if dropped.is_power_of_two() {
            telemetry::job_journal::orders_dropped(dropped);
        }
        false
    }

    /// Writes the pixels of a picture and waits until they are on the disk.
    ///
    /// # Errors
    /// They are not.
    pub async fn keep_pixels(
        &self,
        job: JobId,
        picture: impl AsRef<[u8]> + Send + 'static,
    ) -> io::Result<()> {
        let folder = self.folder.clone();
        let writes = move || folder.keep_pixels(job, picture.as_ref());
        let writes = tokio::task::spawn_blocking(writes);
        match timeout(COMMIT_MAX, writes).await {
            Ok(Ok(written)) => written,
            Ok(Err(ended)) => Err(io::Error::other(ended)),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Reads the pixels of a picture.
    ///
    /// # Errors
    /// The file cannot be read, or has another length.
    pub fn read_pixels(&self, job: JobId, bytes: u64) -> io::Result<Vec<u8>> {
        self.folder.read_pixels(job, bytes)
    }

    /// Writes the newest latents of a job soon, unless others are still being written.
    pub fn offer_latents(&self, job: JobId, latents: JournaledLatents) {
        if self.writes_latents.swap(true, Ordering::AcqRel) {
            return;
        }
        let (folder, busy) = (self.folder.clone(), Arc::clone(&self.writes_latents));
        tokio::task::spawn_blocking(move || {
            // Without them the next daemon begins the job at its first step.
            let _ = folder.keep_latents(job, &latents);
            busy.store(false, Ordering::Release);
        });
    }

    /// Reads the latents of a job, if there are any.
    pub fn read_latents(&self, job: JobId) -> Option<JournaledLatents> {
        self.folder.read_latents(job)
    }

    /// Waits until everything is written, but not for a disk that hangs. Nothing can be written afterwards.
    pub async fn finish(&self) {
        let (done, finished) = oneshot::channel();
        let finish = async {
            if self.orders.send(QueuedOrder::Finish(done)).await.is_ok() {
                let _ = finished.await; // Fails only if the thread has ended.
            }
        };
        // Too slow a disk loses the last orders.
        let _ = timeout(FINISH_MAX, finish).await;
    }

    fn ended(&self) -> NotWritten {
        let path = self.folder.database();
        NotWritten(format!("{} is closed: the daemon ends", path.display()))
    }

    fn too_slow(&self) -> NotWritten {
        let (path, most) = (self.folder.database(), COMMIT_MAX.as_secs());
        NotWritten(format!(
            "{} is not written after {most} seconds: its disk is too slow",
            path.display()
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use pool::LastingFact;

    use super::super::contents::RememberedJob;
    use super::super::orders::PixelsKept;
    use super::super::samples::{
        accept, end, failed, finished, lost, need, past, quarantined, remember, request,
    };
    use super::*;

    fn folder(state: &tempfile::TempDir) -> JournalFolder {
        JournalFolder::open(state.path()).expect("ours to make")
    }

    fn open(state: &tempfile::TempDir) -> (Journal, JournalContents) {
        let opened = Journal::open(folder(state), Clock::start());
        let (journal, contents) = opened.expect("no other daemon uses it");
        (journal, contents.expect("it can be read"))
    }

    /// Writes orders with a journal that ends afterwards.
    async fn write(state: &tempfile::TempDir, orders: Vec<JournalOrder>) {
        let (journal, _) = open(state);
        for order in orders {
            journal.write(order).await.expect("the disk works");
        }
        journal.finish().await;
    }

    #[tokio::test]
    async fn every_kind_of_record_comes_back() {
        let state = tempfile::tempdir().expect("a temporary folder");
        let orders = vec![
            accept(4, 3),
            end(4, finished()),
            end(5, failed()),
            lost(6),
            remember(LastingFact::Quarantined(quarantined("q"))),
            remember(LastingFact::NeedMeasured(need())),
        ];
        write(&state, orders).await;
        let (_, contents) = open(&state);
        assert_eq!(contents.last_id, 6);
        assert_eq!(contents.needs, [need()]);
        let [kept] = &contents.quarantine[..] else {
            panic!("{:?}", contents.quarantine);
        };
        assert!(kept.age >= quarantined("q").age);
        let age = quarantined("q").age;
        let same = pool::QuarantinedRequest {
            age,
            ..kept.clone()
        };
        assert_eq!(same, quarantined("q"));
        let [left] = &contents.requests[..] else {
            panic!("{:?}", contents.requests);
        };
        assert_eq!(left.request, request(4, 3));
        let ended = |job| match &left.jobs[&JobId(job)] {
            RememberedJob::Ended { end, pixels, .. } => (end.clone(), *pixels),
            RememberedJob::Unanswered(_) => panic!("job {job} has ended"),
        };
        assert_eq!(ended(4), (finished(), PixelsKept::Yes));
        assert_eq!(ended(5).0, failed());
        let RememberedJob::Unanswered(of_six) = &left.jobs[&JobId(6)] else {
            panic!("job 6 has no answer");
        };
        assert_eq!(*of_six, past());
    }

    #[tokio::test]
    async fn what_is_not_needed_any_longer_is_removed() {
        let state = tempfile::tempdir().expect("a temporary folder");
        let forget = |jobs: &[u64]| JournalOrder::Forget {
            jobs: jobs.iter().copied().map(JobId).collect(),
        };
        let names = vec!["q".to_owned()];
        let orders = vec![
            accept(1, 2),
            accept(3, 1),
            end(1, finished()),
            end(3, finished()),
            JournalOrder::DropPixels {
                job: JobId(3),
                why: PixelsKept::Displaced,
            },
            forget(&[1]),
            remember(LastingFact::Quarantined(quarantined("q"))),
            remember(LastingFact::Released { names }),
        ];
        write(&state, orders).await;
        let (journal, contents) = open(&state);
        let left = |nth: usize| contents.requests[nth].jobs.keys().map(|job| job.0);
        assert_eq!(left(0).collect::<Vec<u64>>(), [2], "the other is forgotten");
        assert_eq!(left(1).collect::<Vec<u64>>(), [3]);
        assert!(contents.quarantine.is_empty());
        assert!(matches!(
            contents.requests[1].jobs[&JobId(3)],
            RememberedJob::Ended {
                pixels: PixelsKept::Displaced,
                ..
            }
        ));
        let gone = journal.write(forget(&[2, 3])).await;
        gone.expect("the disk works");
        journal.finish().await;
        assert!(open(&state).1.requests.is_empty());
    }

    #[tokio::test]
    async fn ids_never_go_back_and_go_on_without_a_gap_after_an_orderly_end() {
        let state = tempfile::tempdir().expect("a temporary folder");
        let (journal, _) = open(&state);
        let mut lease = super::super::lease::IdLease::begin(journal.clone(), 0).await;
        lease.note(JobId(7));
        journal.write(accept(8, 1)).await.expect("the disk works");
        drop((journal, lease));
        // The thread of the first one closes the file.
        let killed = loop {
            match Journal::open(folder(&state), Clock::start()) {
                Ok(opened) => break opened,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let (journal, contents) = killed;
        let used = contents.expect("it can be read").last_id;
        assert!(used >= 8, "{used}");
        let lease = super::super::lease::IdLease::begin(journal.clone(), used).await;
        lease.settle(JobId(used + 3));
        journal.finish().await;
        assert_eq!(open(&state).1.last_id, used + 3);
    }

    #[tokio::test]
    async fn a_second_daemon_gets_no_journal_that_is_in_use() {
        let state = tempfile::tempdir().expect("a temporary folder");
        let (_journal, _) = open(&state);
        let refused = Journal::open(folder(&state), Clock::start()).expect_err("it is in use");
        let said = refused.to_string();
        assert!(said.contains("belongs to a daemon that runs"), "{said}");
    }

    /// Damages the file of a journal; returns the word about the next one, and its contents.
    async fn damaged(damage: impl FnOnce(&mut Vec<u8>)) -> (&'static str, String, JournalContents) {
        let state = tempfile::tempdir().expect("a temporary folder");
        write(&state, vec![accept(1, 1), accept(2, 1)]).await;
        let path = folder(&state).database();
        let mut bytes = fs::read(&path).expect("it is there");
        damage(&mut bytes);
        fs::write(&path, bytes).expect("ours");
        let (journal, contents) = open(&state);
        let (word, sentence) = journal.condition().report();
        journal.write(accept(3, 1)).await.expect("the disk works");
        (word, sentence, contents)
    }

    #[tokio::test]
    async fn a_damaged_file_is_moved_aside_and_a_new_one_begins() {
        let all_zero = |bytes: &mut Vec<u8>| bytes.fill(0);
        let all_ones = |bytes: &mut Vec<u8>| bytes.fill(0xff);
        let cut = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 3);
        let text = |bytes: &mut Vec<u8>| *bytes = b"not a journal".to_vec();
        let pages = |bytes: &mut Vec<u8>| bytes[4096..].fill(0x5a);
        let damages: [fn(&mut Vec<u8>); 5] = [all_zero, all_ones, cut, text, pages];
        for (nth, damage) in damages.into_iter().enumerate() {
            let (word, sentence, contents) = damaged(damage).await;
            let left = contents.requests.len();
            assert_eq!((word, left), ("renewed", 0), "damage {nth}");
            assert!(sentence.contains("damaged-"), "{sentence}");
            // The ids that were used are not known, and lower than this.
            assert!(contents.last_id > 1 << 40, "{}", contents.last_id);
        }
    }

    #[tokio::test]
    async fn ids_do_not_begin_again_if_the_file_of_a_journal_is_gone_or_empty() {
        for is_empty in [false, true] {
            let state = tempfile::tempdir().expect("a temporary folder");
            write(&state, vec![accept(1, 1)]).await;
            let folder = folder(&state);
            folder.keep_pixels(JobId(1), &[7; 12]).expect("ours");
            match is_empty {
                true => fs::write(folder.database(), "").expect("ours"),
                false => fs::remove_file(folder.database()).expect("ours"),
            }
            let (journal, contents) = open(&state);
            assert!(contents.last_id > 1 << 40, "{}", contents.last_id);
            journal.finish().await;
        }
    }

    #[tokio::test]
    async fn a_file_that_is_damaged_while_it_is_used_costs_no_id() {
        let state = tempfile::tempdir().expect("a temporary folder");
        let (journal, _) = open(&state);
        let _lease = super::super::lease::IdLease::begin(journal.clone(), 7).await;
        let path = folder(&state).database();
        let bytes = fs::read(&path).expect("it is there").len();
        // In place: the journal has this file open.
        let mut file = fs::OpenOptions::new().write(true).open(&path).expect("it");
        std::io::Write::write_all(&mut file, &vec![0x5a; bytes]).expect("ours");
        for first in [10, 20, 30] {
            journal.write(accept(first, 1)).await.expect("a new file");
        }
        journal.finish().await;
        let used = open(&state).1.last_id;
        assert!(used >= 30, "{used}");
    }

    #[tokio::test]
    async fn a_flipped_bit_anywhere_is_harmless_or_found() {
        let state = tempfile::tempdir().expect("a temporary folder");
        write(&state, vec![accept(1, 1), accept(2, 1)]).await;
        let path = folder(&state).database();
        let whole = fs::read(&path).expect("it is there");
        let used = whole.len() - whole.iter().rev().take_while(|byte| **byte == 0).count();
        for at in (0..used).step_by(4999) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, &bytes).expect("ours");
            let (journal, contents) = open(&state);
            let (word, _) = journal.condition().report();
            let left = contents.requests.len();
            assert!(
                (word, left) == ("renewed", 0) || (word == "kept" && left == 2),
                "byte {at}: {word}, {left} requests"
            );
            journal.finish().await;
        }
    }
}
