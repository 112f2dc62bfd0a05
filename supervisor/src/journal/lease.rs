//! The ids of jobs that may be in use: written down before they are used, and never used twice.

use ipc_protocol::ids::JobId;

use super::handle::Journal;
use super::orders::JournalOrder;

/// Ids that are written down at once.
const LEASE: u64 = 4096;

/// The ids that the journal says are in use. A daemon that was killed leaves a gap of unused ones behind.
#[derive(Debug)]
pub struct IdLease {
    journal: Journal,
    /// Ids up to this one are written down, or about to be.
    leased: u64,
}

impl IdLease {
    /// Leases the first ids after `used`, and waits until that is on the disk.
    pub async fn begin(journal: Journal, used: u64) -> Self {
        let last = used.saturating_add(LEASE);
        let order = JournalOrder::LeaseIds { last: JobId(last) };
        // A disk that fails was told. It gets the order with the next ones.
        let leased = match journal.write(order).await {
            Ok(()) => last,
            Err(_) => used,
        };
        Self { journal, leased }
    }

    /// Notes that an id is in use. Half a lease before the end, the next one is written down: nothing waits for it.
    pub fn note(&mut self, used: JobId) {
        if used.0.saturating_add(LEASE / 2) > self.leased {
            self.extend(used.0);
        }
    }

    fn extend(&mut self, used: u64) {
        let last = used.saturating_add(LEASE);
        if self
            .journal
            .tell(JournalOrder::LeaseIds { last: JobId(last) })
        {
            self.leased = last;
        }
    }

    /// Writes down the last id that was used, so that the next daemon goes on with the one after it.
    pub fn settle(&self, used: JobId) {
        let _ = self.journal.tell(JournalOrder::SettleIds { last: used });
    }
}
