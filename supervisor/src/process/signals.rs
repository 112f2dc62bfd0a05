//! Turns a signal into an error, and ends this process with its parent.

use std::io;

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::getppid;

/// Blocks SIGXFSZ: a write beyond the file size limit (`ulimit -f`) is then an error and does not kill the process.
/// Must be called before threads start. Threads and the programs that we start inherit it.
pub fn fail_beyond_file_size_limit() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    // Setting the mask of the own thread cannot fail.
    let _ = signals.thread_block();
}

/// Asks the kernel to kill this process when the thread that started it ends. `parent` is the process of that thread.
///
/// # Errors
/// The parent is gone, or the kernel refuses.
pub fn die_with(parent: u32) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // It may have ended before the kernel was asked.
    match u32::try_from(getppid().as_raw()) == Ok(parent) {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "process {parent} did not start this one, or is gone"
        ))),
    }
}
