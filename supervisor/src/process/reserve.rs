//! File descriptors that are kept for the start of a worker, so that clients cannot take the last ones.

use std::fs::File;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use nix::errno::Errno;
use tokio::sync::watch;

/// Descriptors in reserve. A start takes at most 10 at a time: the segment and its copy, both ends of the socket pair, of
/// stderr's pipe and of the pipe that reports a failed exec, the descriptor of the process, and a file of its control group.
/// The doors may take one each, for clients that they were already accepting.
pub const START: usize = 16;
/// Further descriptors with which the native door accepts clients when no other is left: operators with short questions, and
/// others to refuse them.
const DOOR: usize = 5;
/// How long a start waits for descriptors: less than the pool waits for a worker's hello.
const ROOM_PATIENCE: Duration = Duration::from_secs(20);

/// The reserve. Cheap to clone; all clones are the same one.
#[derive(Debug, Clone)]
pub struct DescriptorReserve(Arc<ReserveParts>);

#[derive(Debug)]
struct ReserveParts {
    spares: Mutex<Spares>,
    /// Notified when the reserve is whole.
    whole: Condvar,
    state: watch::Sender<ReserveState>,
}

/// The descriptors, of any file.
#[derive(Debug, Default)]
struct Spares {
    /// For the start of a worker.
    start: Vec<File>,
    /// For the native door.
    door: Vec<File>,
}

/// The state of the reserve for starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReserveState {
    /// It has all its descriptors.
    Whole,
    /// This number is missing.
    Short(usize),
    /// A worker is being started with them: no door may accept a client.
    Lent,
}

/// The descriptors are free for a start until this is dropped.
#[derive(Debug)]
pub struct LentDescriptors<'a>(&'a DescriptorReserve);

impl Drop for LentDescriptors<'_> {
    fn drop(&mut self) {
        let mut spares = self.0.spares();
        self.0.fill(&mut spares);
    }
}

impl Default for DescriptorReserve {
    /// A reserve that is whole if there are descriptors enough.
    fn default() -> Self {
        let reserve = Self(Arc::new(ReserveParts {
            spares: Mutex::default(),
            whole: Condvar::new(),
            state: watch::Sender::new(ReserveState::Whole),
        }));
        reserve.fill(&mut reserve.spares());
        reserve
    }
}

impl DescriptorReserve {
    /// Frees the descriptors for the start of a worker.
    pub fn lend(&self) -> LentDescriptors<'_> {
        self.0.state.send_replace(ReserveState::Lent);
        self.spares().start.clear();
        LentDescriptors(self)
    }

    /// Frees one descriptor for the native door. Returns whether there was one.
    pub fn lend_to_door(&self) -> bool {
        self.spares().door.pop().is_some()
    }

    /// Takes descriptors that were closed elsewhere, if any are missing.
    pub fn refill(&self) {
        let mut spares = self.spares();
        if *self.0.state.borrow() != ReserveState::Lent {
            self.fill(&mut spares);
        }
    }

    /// Waits until the reserve is whole. Returns whether it is. Blocks its thread, for a bounded time.
    pub fn wait_until_whole(&self) -> bool {
        let spares = self.spares();
        let waited = self
            .0
            .whole
            .wait_timeout_while(spares, ROOM_PATIENCE, |spares| spares.start.len() < START);
        let (spares, _) = waited.expect("no holder of this lock can panic");
        spares.start.len() >= START
    }

    /// Follows the state of the reserve.
    pub fn follow(&self) -> watch::Receiver<ReserveState> {
        self.0.state.subscribe()
    }

    /// Waits until no worker is being started with it.
    pub async fn settled(&self) {
        // Fails only without a sender, which is in `self`.
        let mut state = self.follow();
        let _ = state.wait_for(|state| *state != ReserveState::Lent).await;
    }

    fn fill(&self, spares: &mut Spares) {
        let Spares { start, door } = spares;
        for (descriptors, most) in [(door, DOOR), (start, START)] {
            while descriptors.len() < most
                && let Ok(spare) = File::open("/dev/null")
            {
                descriptors.push(spare);
            }
        }
        let state = match START - spares.start.len() {
            0 => ReserveState::Whole,
            missing => ReserveState::Short(missing),
        };
        if state == ReserveState::Whole {
            self.0.whole.notify_all();
        }
        self.0.state.send_if_modified(|before| {
            let is_new = *before != state;
            *before = state;
            is_new
        });
    }

    fn spares(&self) -> MutexGuard<'_, Spares> {
        let spares = self.0.spares.lock();
        spares.expect("no holder of this lock can panic")
    }
}

/// Whether an operation failed because this process or the machine has no descriptor left.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lent_descriptors_come_back_and_the_doors_see_their_state() {
        let reserve = DescriptorReserve::default();
        let state = reserve.follow();
        assert_eq!(*state.borrow(), ReserveState::Whole);
        let lent = reserve.lend();
        assert_eq!(*state.borrow(), ReserveState::Lent);
        assert!(reserve.spares().start.is_empty());
        reserve.refill();
        assert!(
            reserve.spares().start.is_empty(),
            "they are free for the start"
        );
        drop(lent);
        assert_eq!(*state.borrow(), ReserveState::Whole);
        assert!(reserve.wait_until_whole());
        assert!((0..DOOR).all(|_| reserve.lend_to_door()));
        assert!(!reserve.lend_to_door());
        assert_eq!(*state.borrow(), ReserveState::Whole, "no start lacks any");
        reserve.refill();
        assert!(reserve.lend_to_door());
    }

    #[test]
    fn a_start_waits_until_missing_descriptors_are_there() {
        let reserve = DescriptorReserve::default();
        reserve.spares().start.truncate(START - 3);
        let waits = {
            let reserve = reserve.clone();
            std::thread::spawn(move || reserve.wait_until_whole())
        };
        reserve.refill();
        assert!(waits.join().expect("it does not panic"));
    }
}
