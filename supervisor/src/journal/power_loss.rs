//! Power loss: a disk that loses or tears what was written after its last sync.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use ipc_protocol::ids::JobId;
use pool::LastingFact;
use redb::StorageBackend;

use super::contents::{JournalContents, RememberedJob};
use super::database::JournalDatabase;
use super::orders::JournalOrder;
use super::samples::{accept, end, failed, finished, lost, quarantined, remember};

const NOW_MS: u64 = 1_800_000_000_000;

/// A change of a disk.
#[derive(Debug, Clone)]
enum DiskChange {
    Write {
        offset: usize,
        bytes: Vec<u8>,
    },
    Resize(usize),
    Sync,
    /// The journal acknowledged its order of this number.
    Acknowledged(usize),
}

/// A disk in memory that remembers each change.
#[derive(Debug, Clone, Default)]
struct RecordedDisk(Arc<Mutex<DiskState>>);

#[derive(Debug, Default)]
struct DiskState {
    bytes: Vec<u8>,
    changes: Vec<DiskChange>,
}

impl RecordedDisk {
    fn holding(bytes: Vec<u8>) -> Self {
        let changes = Vec::new();
        Self(Arc::new(Mutex::new(DiskState { bytes, changes })))
    }

    fn state(&self) -> MutexGuard<'_, DiskState> {
        self.0.lock().expect("no holder panics")
    }

    fn change(&self, change: DiskChange) {
        let mut state = self.state();
        apply(&mut state.bytes, &change);
        state.changes.push(change);
    }
}

fn apply(disk: &mut Vec<u8>, change: &DiskChange) {
    match change {
        DiskChange::Write { offset, bytes } => {
            let end = offset + bytes.len();
            if disk.len() < end {
                disk.resize(end, 0);
            }
            disk[*offset..end].copy_from_slice(bytes);
        }
        DiskChange::Resize(length) => disk.resize(*length, 0),
        DiskChange::Sync | DiskChange::Acknowledged(_) => {}
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("a small disk")
}

impl StorageBackend for RecordedDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let begin = index(offset);
        let state = self.state();
        let read = state.bytes.get(begin..begin + out.len());
        out.copy_from_slice(read.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.change(DiskChange::Resize(index(length)));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(DiskChange::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (offset, bytes) = (index(offset), bytes.to_vec());
        self.change(DiskChange::Write { offset, bytes });
        Ok(())
    }
}

/// Orders of every kind, one commit each.
fn orders() -> Vec<JournalOrder> {
    let mut orders = Vec::new();
    for request in 0..6 {
        let first = 1 + 3 * request;
        orders.push(accept(first, 3));
        orders.push(lost(first));
        orders.push(end(first, finished()));
        orders.push(end(first + 1, failed()));
        let name = format!("q{request}");
        orders.push(remember(LastingFact::Quarantined(quarantined(&name))));
    }
    orders
}

/// The acknowledged orders that are missing from `contents`.
fn missing(orders: &[JournalOrder], contents: &JournalContents) -> Vec<String> {
    let job = |id: &JobId| {
        let mut requests = contents.requests.iter();
        requests.find_map(|request| request.jobs.get(id))
    };
    let is_there = |order: &&JournalOrder| match order {
        JournalOrder::Accept(request) => request
            .accepted
            .jobs
            .iter()
            .all(|id| job(id).is_some() && contents.last_id >= id.0),
        JournalOrder::End { job: id, .. } => {
            matches!(job(id), Some(RememberedJob::Ended { .. }))
        }
        JournalOrder::Remember(LastingFact::Quarantined(request)) => {
            let mut kept = contents.quarantine.iter();
            kept.any(|kept| kept.name == request.name)
        }
        // Replaced by the end that follows.
        _ => true,
    };
    let lacking = orders.iter().filter(|order| !is_there(order));
    lacking.map(|order| format!("{order:?}")).collect()
}

/// The disks that a power loss may leave: what was synced, and some of what was written since.
fn after_power_loss(changes: &[DiskChange]) -> Vec<Vec<u8>> {
    let is_sync = |change: &DiskChange| matches!(change, DiskChange::Sync);
    let synced = changes.iter().rposition(is_sync).map_or(0, |at| at + 1);
    let mut base = Vec::new();
    for change in &changes[..synced] {
        apply(&mut base, change);
    }
    let since: Vec<&DiskChange> = changes[synced..]
        .iter()
        .filter(|change| matches!(change, DiskChange::Write { .. } | DiskChange::Resize(_)))
        .collect();
    let with = |chosen: &mut dyn Iterator<Item = &DiskChange>| {
        let mut disk = base.clone();
        chosen.for_each(|change| apply(&mut disk, change));
        disk
    };
    let mut disks = vec![with(&mut std::iter::empty())];
    if since.is_empty() {
        return disks;
    }
    disks.push(with(&mut since.iter().copied()));
    // Out of order: the last write alone, and all but the first.
    disks.push(with(&mut since.iter().rev().take(1).copied()));
    disks.push(with(&mut since.iter().skip(1).copied()));
    // Torn: half of the last write.
    let mut torn: Vec<DiskChange> = since.iter().map(|&change| change.clone()).collect();
    if let Some(DiskChange::Write { bytes, .. }) = torn.last_mut() {
        bytes.truncate(bytes.len() / 2);
    }
    disks.push(with(&mut torn.iter()));
    disks
}

#[test]
fn after_a_power_loss_at_any_moment_the_journal_holds_all_that_was_acknowledged() {
    let disk = RecordedDisk::default();
    let orders = orders();
    {
        let journal = JournalDatabase::on(disk.clone()).expect("an empty disk");
        for (number, order) in orders.iter().enumerate() {
            let written = journal.commit(std::slice::from_ref(order), NOW_MS);
            written.expect("the disk works");
            disk.change(DiskChange::Acknowledged(number));
        }
        // It is never closed.
        std::mem::forget(journal);
    }
    let changes = disk.state().changes.clone();
    let mut opened = 0;
    for end in 0..=changes.len() {
        let acknowledged = changes[..end].iter().filter_map(|change| match change {
            DiskChange::Acknowledged(number) => Some(number + 1),
            _ => None,
        });
        let acknowledged = acknowledged.max().unwrap_or(0);
        for bytes in after_power_loss(&changes[..end]) {
            let left = RecordedDisk::holding(bytes);
            let journal = match JournalDatabase::on(left) {
                Ok(journal) => journal,
                // A journal that was never complete is begun anew.
                Err(_) if acknowledged == 0 => continue,
                Err(fault) => panic!("after {end} changes: {fault}"),
            };
            let contents = journal.read(NOW_MS).expect("it was repaired");
            let missing = missing(&orders[..acknowledged], &contents);
            assert!(missing.is_empty(), "after {end} changes: {missing:?}");
            opened += 1;
        }
    }
    println!(
        "{} changes of the disk, {opened} journals opened after a power loss, 0 acknowledged orders lost",
        changes.len()
    );
    assert!(opened > changes.len(), "most states can be opened");
}
