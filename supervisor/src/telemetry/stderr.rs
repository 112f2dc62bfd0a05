//! Lines for people on this process's stderr: the one way to print there, and it cannot panic.
//!
//! `eprintln!` panics when the reader of stderr has left or its disk is full, so this package forbids it.

use std::fmt::Display;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::outlet::{LossLine, Outlet};

/// Bytes of lines that may wait for a reader of stderr that pauses.
const QUEUE_BYTES_MAX: usize = 1 << 20;

/// The queue of a process that must not block on its stderr.
static OUTLET: OnceLock<Outlet> = OnceLock::new();

/// Prints a line: through the queue where one was opened, else at once. A line that cannot be written is lost.
pub fn line(text: impl Display) {
    let line = format!("{text}\n");
    match OUTLET.get() {
        Some(outlet) => outlet.push(line.into_bytes()),
        // Whoever closed stderr does not want the line.
        None => drop(io::stderr().write_all(line.as_bytes())),
    }
}

/// From now on every line goes through a bounded queue and a thread of its own, so that a reader that pauses,
/// leaves or is out of disk blocks nobody. Once per process; `loss_line` tells of lost lines.
///
/// # Errors
/// The kernel gives no thread.
pub(super) fn queued(loss_line: LossLine) -> io::Result<Outlet> {
    let outlet = Outlet::open("log", Patient(io::stderr()), QUEUE_BYTES_MAX, loss_line)?;
    Ok(OUTLET.get_or_init(|| outlet).clone())
}

/// Waits until what was queued is written, no longer than `patience`.
pub fn flush(patience: Duration) {
    if let Some(outlet) = OUTLET.get() {
        outlet.flush(patience);
    }
}

/// A file that waits for its reader although a process that shares it has made it non-blocking.
struct Patient<F>(F);

impl<F: Write + AsFd> Write for Patient<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut file = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
                    poll(&mut file, PollTimeout::NONE)?;
                }
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    #[test]
    fn a_non_blocking_file_is_waited_for() {
        let (ours, mut theirs) = UnixStream::pair().expect("two sockets");
        ours.set_nonblocking(true).expect("our own socket");
        let many = vec![7; 4 << 20];
        let read = thread::spawn(move || {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).map(|_| all)
        });
        Patient(ours).write_all(&many).expect("somebody reads");
        let all = read.join().expect("no panic").expect("our own socket");
        assert!(all == many);
    }
}
