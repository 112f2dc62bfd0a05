//! Waiting for what the kernel does not announce: the only place in the tests that looks again.

#![expect(
    clippy::disallowed_methods,
    reason = "/proc tells no one when it changes, so it is looked at again until a deadline"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Looks until `look` finds something, at most `patience` long.
pub fn until_found<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if begin.elapsed() >= patience {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Looks until `holds`, at most `patience` long; says whether it came to hold.
pub fn until(patience: Duration, mut holds: impl FnMut() -> bool) -> bool {
    until_found(patience, || holds().then_some(())).is_some()
}

/// Returns an action's result and its duration.
pub fn timed<T>(action: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    (action(), begin.elapsed())
}

/// The time since it began.
#[derive(Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn passed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Lets time pass, where a test strikes at a moment of chance and not at an event.
pub fn moments_of_chance(duration: Duration) {
    thread::sleep(duration);
}

/// Sets a flag when a scope is left, also by a panic.
#[derive(Debug)]
pub struct EndsOnDrop<'a>(pub &'a AtomicBool);

impl Drop for EndsOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
