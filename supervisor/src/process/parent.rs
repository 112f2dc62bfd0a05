//! A short-lived process that ends with the one that started it.

use std::process;

use nix::sys::{prctl, signal::Signal};
use nix::unistd;

/// Exit code of a process whose parent is gone.
const PARENT_GONE: i32 = 84;

/// Asks the kernel for `signal` when the parent ends, and ends this process when `parent` is not its parent
/// any more. To be called before anything else.
pub fn end_with(parent: Option<u32>, signal: Signal) {
    // Where the kernel will not arm it, the next line that nobody reads ends us too.
    let _ = prctl::set_pdeathsig(signal);
    if parent.is_some_and(|parent| unistd::getppid().as_raw() as u32 != parent) {
        process::exit(PARENT_GONE);
    }
}
