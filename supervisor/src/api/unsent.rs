//! Bytes that wait for clients that take none, bounded for all doors together.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Most bytes that may wait for clients that stand still besides those of one; beyond them the client that has stood still
/// longest goes.
const STANDING_BYTES_MAX: u64 = 16 << 20;
/// The same for a client that has stood still for a moment only.
const PAUSING_BYTES_MAX: u64 = 32 << 20;

/// The bytes that wait for one client.
#[derive(Debug, Clone, Default)]
pub struct ClientBytes(Arc<AtomicU64>);

impl ClientBytes {
    /// Sets their number.
    pub fn set(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    /// Counts more.
    pub fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes that were sent.
    pub fn subtract(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The bytes that wait in all. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub struct UnsentBytes(Arc<Mutex<StandingClients>>);

/// The clients that take nothing at the moment.
#[derive(Debug, Default)]
struct StandingClients {
    /// Their bytes, in the order in which they stopped.
    bytes: BTreeMap<u64, u64>,
    next: u64,
}

/// A client that takes nothing, until this is dropped.
#[derive(Debug)]
pub(super) struct StandingClient {
    all: UnsentBytes,
    number: u64,
}

impl UnsentBytes {
    /// Notes that a client has stopped to take its bytes.
    pub(super) fn stopped(&self) -> StandingClient {
        let mut all = self.all();
        let number = all.next;
        all.next += 1;
        all.bytes.insert(number, 0);
        drop(all);
        StandingClient {
            all: self.clone(),
            number,
        }
    }

    fn all(&self) -> MutexGuard<'_, StandingClients> {
        self.0.lock().expect("no holder of this lock can panic")
    }
}

impl StandingClient {
    /// Whether the client has to be disconnected: if too many bytes wait, those of the clients that have stood still longer
    /// are not enough, and it is not the last to have stopped: a single picture is not too much. `bytes` wait for this one;
    /// `pauses` if it has stood still for a moment only.
    pub fn has_to_go(&self, bytes: u64, pauses: bool) -> bool {
        let most = match pauses {
            true => PAUSING_BYTES_MAX,
            false => STANDING_BYTES_MAX,
        };
        let mut all = self.all.all();
        all.bytes.insert(self.number, bytes);
        let waiting: u64 = all.bytes.values().sum();
        let surplus = waiting.saturating_sub(most);
        let of_longer: u64 = all.bytes.range(..self.number).map(|(_, bytes)| bytes).sum();
        let is_last = all.bytes.range(self.number + 1..).next().is_none();
        of_longer < surplus && !is_last
    }
}

impl Drop for StandingClient {
    fn drop(&mut self) {
        self.all.all().bytes.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    #[test]
    fn clients_that_stand_still_longest_go_first_and_only_as_many_as_needed() {
        let all = UnsentBytes::default();
        let clients: Vec<StandingClient> = (0..3).map(|_| all.stopped()).collect();
        assert!(
            clients
                .iter()
                .all(|client| !client.has_to_go(5 * MB, false))
        );
        let late = all.stopped();
        assert!(!late.has_to_go(5 * MB, false), "those before it are enough");
        assert!(clients[0].has_to_go(5 * MB, false));
        assert!(!clients[1].has_to_go(5 * MB, false));
        drop(clients);
        assert!(!late.has_to_go(48 * MB, false), "one picture may be large");
        let _later = all.stopped();
        assert!(!late.has_to_go(16 * MB, false));
        assert!(late.has_to_go(17 * MB, false), "others wait as well");
        assert!(!late.has_to_go(32 * MB, true), "it may go on in a moment");
        assert!(late.has_to_go(33 * MB, true));
    }
}
