//! Descriptors that whoever started us had left open.

use std::fs;

use nix::unistd;

/// Closes every descriptor above stderr, so that no worker inherits what a shell or a service manager
/// forgot. To be called before anything is opened: a descriptor that is in use would be lost.
pub fn close_inherited() {
    let open: Vec<i32> = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > 2)
        .collect();
    for descriptor in open {
        // EBADF is the folder's own descriptor, which is closed again by now.
        let _ = unistd::close(descriptor);
    }
}
