//! Closes file descriptors inherited from the parent process.

use std::fs;

use nix::unistd;

/// The descriptor after stderr: the first that a service manager passes.
const FIRST_PASSED: usize = 3;

/// Closes every descriptor above stderr except the next `passed` ones, so that no worker inherits descriptors that a
/// shell or a service manager left open. Must be called before anything is opened, because it closes descriptors in use too.
pub fn close_inherited(passed: usize) {
    let open: Vec<i32> = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|descriptor| {
            usize::try_from(*descriptor).is_ok_and(|it| it >= FIRST_PASSED + passed)
        })
        .collect();
    for descriptor in open {
        // EBADF: the descriptor of the listing itself, which is closed already.
        let _ = unistd::close(descriptor);
    }
}
