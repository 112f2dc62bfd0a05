//! Heavy tests one after the other: what they measure should be the pool, not each other.

use std::sync::{Mutex, MutexGuard, PoisonError};

static TURN: Mutex<()> = Mutex::new(());

/// Waits for this test's turn; it lasts as long as the value.
pub fn take() -> MutexGuard<'static, ()> {
    // A test that failed in its turn has no state that could be broken.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
