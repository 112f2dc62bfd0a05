//! Bytes that wait for clients that take none, bounded for all doors together.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Most bytes that may wait for clients that stand still; beyond them the client that has stood still longest goes.
const STANDING_BYTES_MAX: u64 = 16 << 20;
/// The same for a client that has stood still for a moment only.
const PAUSING_BYTES_MAX: u64 = 24 << 20;

/// The bytes that wait for one client, and whether it reads.
#[derive(Debug, Clone, Default)]
pub struct ClientBytes(Arc<ClientReading>);

#[derive(Debug, Default)]
struct ClientReading {
    bytes: AtomicU64,
    reads_on: AtomicBool,
}

impl ClientBytes {
    /// Sets their number.
    pub fn set(&self, bytes: u64) {
        self.0.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Counts more.
    pub fn add(&self, bytes: u64) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes that were sent.
    pub fn subtract(&self, bytes: u64) {
        self.0.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Notes that the client read on after it had stood still.
    pub(super) fn reads_on(&self) {
        self.0.reads_on.store(true, Ordering::Relaxed);
    }

    pub(super) fn habit(&self) -> Habit {
        match self.0.reads_on.load(Ordering::Relaxed) {
            true => Habit::ReadsOn,
            false => Habit::NeverReads,
        }
    }
}

/// The bytes that wait in all. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub struct UnsentBytes(Arc<Mutex<StandingClients>>);

/// A client's place in the order: those that never took more than their socket holds go before those that read slowly, and
/// among them those that stopped earlier.
type Place = (Habit, u64);

/// What is known of how a client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Habit {
    /// It has not read on since its socket was full for the first time.
    NeverReads,
    /// It read on after it had stood still.
    ReadsOn,
}

/// The clients that take nothing at the moment.
#[derive(Debug, Default)]
struct StandingClients {
    /// Their bytes, in the order in which they go.
    bytes: BTreeMap<Place, u64>,
    next: u64,
}

/// A client that takes nothing, until this is dropped.
#[derive(Debug)]
pub(super) struct StandingClient {
    all: UnsentBytes,
    place: Place,
}

impl UnsentBytes {
    /// Notes that a client has stopped to take its bytes.
    pub(super) fn stopped(&self, habit: Habit) -> StandingClient {
        let mut all = self.all();
        let place = (habit, all.next);
        all.next += 1;
        all.bytes.insert(place, 0);
        drop(all);
        StandingClient {
            all: self.clone(),
            place,
        }
    }

    fn all(&self) -> MutexGuard<'_, StandingClients> {
        self.0.lock().expect("no holder of this lock can panic")
    }
}

impl StandingClient {
    /// Whether the client has to be disconnected: if too many bytes wait, and those of the clients that go before it
    /// are not enough. `bytes` wait for this one; `pauses` if it has stood still for a moment only.
    pub fn has_to_go(&self, bytes: u64, pauses: bool) -> bool {
        let most = match pauses {
            true => PAUSING_BYTES_MAX,
            false => STANDING_BYTES_MAX,
        };
        let mut all = self.all.all();
        all.bytes.insert(self.place, bytes);
        let waiting: u64 = all.bytes.values().sum();
        let surplus = waiting.saturating_sub(most);
        let of_longer: u64 = all.bytes.range(..self.place).map(|(_, bytes)| bytes).sum();
        of_longer < surplus
    }
}

impl Drop for StandingClient {
    fn drop(&mut self) {
        self.all.all().bytes.remove(&self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    #[test]
    fn clients_that_stand_still_longest_go_first_and_only_as_many_as_needed() {
        let all = UnsentBytes::default();
        let clients: Vec<StandingClient> = (0..3).map(|_| all.stopped(Habit::NeverReads)).collect();
        assert!(
            clients
                .iter()
                .all(|client| !client.has_to_go(5 * MB, false))
        );
        let late = all.stopped(Habit::NeverReads);
        assert!(!late.has_to_go(5 * MB, false), "those before it are enough");
        assert!(clients[0].has_to_go(5 * MB, false));
        assert!(!clients[1].has_to_go(5 * MB, false));
        drop(clients);
        assert!(!late.has_to_go(16 * MB, false));
        assert!(late.has_to_go(17 * MB, false), "it alone is too much");
        assert!(!late.has_to_go(24 * MB, true), "it may go on in a moment");
        assert!(late.has_to_go(25 * MB, true));
    }
    #[test]
    fn a_client_that_reads_slowly_stays_while_others_that_never_read_are_enough() {
        let all = UnsentBytes::default();
        let slow = all.stopped(Habit::ReadsOn);
        let deaf: Vec<StandingClient> = (0..9).map(|_| all.stopped(Habit::NeverReads)).collect();
        for client in &deaf {
            client.has_to_go(3 * MB, true);
        }
        assert!(
            !slow.has_to_go(3 * MB, true),
            "it stopped first, and reads on"
        );
        assert!(deaf[0].has_to_go(3 * MB, true));
        drop(deaf);
        assert!(slow.has_to_go(25 * MB, true), "it alone is too much");
    }
}
