//! Turns a signal into an error.

use nix::sys::signal::{SigSet, Signal};

/// Blocks SIGXFSZ: a write beyond the file size limit (`ulimit -f`) is then an error and does not kill the process.
/// Must be called before threads start. Threads and the programs that we start inherit it.
pub fn fail_beyond_file_size_limit() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    // Setting the mask of the own thread cannot fail.
    let _ = signals.thread_block();
}
