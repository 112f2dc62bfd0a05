//! Prints lines on stderr without panicking; all code of this package prints through it.
//!
//! `eprintln!` panics if stderr is closed or its disk is full, so this package forbids it.

use std::fmt::Display;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::outlet::{LossLine, Outlet};

/// Most bytes of lines that wait for a slow reader of stderr.
const QUEUE_BYTES_MAX: usize = 1 << 20;

/// The queue, in a process that must not block on its stderr.
static OUTLET: OnceLock<Outlet> = OnceLock::new();

/// Prints a line: through the queue if it was opened, else directly. A line that cannot be written is lost.
pub fn line(text: impl Display) {
    let line = format!("{text}\n");
    match OUTLET.get() {
        Some(outlet) => outlet.push(line.into_bytes()),
        // If stderr is closed, no one reads the line.
        None => drop(io::stderr().write_all(line.as_bytes())),
    }
}

/// Opens the queue: from now on lines are written by a separate thread, so that a slow or broken stderr blocks
/// no caller. Called once per process; `loss_line` reports lost lines.
///
/// # Errors
/// No thread can be started.
pub(super) fn queued(loss_line: LossLine) -> io::Result<Outlet> {
    let outlet = Outlet::open("log", Patient(io::stderr()), QUEUE_BYTES_MAX, loss_line)?;
    Ok(OUTLET.get_or_init(|| outlet).clone())
}

/// Waits until the queued lines are written, for at most `patience`.
pub(super) fn flush(patience: Duration) {
    if let Some(outlet) = OUTLET.get() {
        outlet.flush(patience);
    }
}

/// A file that blocks until it is writable, even if another process that shares it has made it non-blocking.
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
    fn writes_to_a_non_blocking_file_wait_for_its_reader() {
        let (ours, mut theirs) = UnixStream::pair().expect("two sockets");
        ours.set_nonblocking(true).expect("our own socket");
        let many = vec![7; 4 << 20];
        let read = thread::spawn(move || {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).map(|_| all)
        });
        Patient(ours)
            .write_all(&many)
            .expect("the other thread reads");
        let all = read.join().expect("no panic").expect("our own socket");
        assert!(all == many);
    }
}
