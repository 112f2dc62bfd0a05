//! Signals that are better errors.

use nix::sys::signal::{SigSet, Signal};

/// Makes a write beyond the limit of a file's size (`ulimit -f`) an error instead of the end of the process.
/// To be called before threads are started, which inherit it, as do the programs that we start.
pub fn fail_beyond_file_size_limit() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    // The mask of this thread can be set.
    let _ = signals.thread_block();
}
