//! A bounded queue of lines for a file that may block or fail, and a thread that writes them.
//!
//! `tracing-appender` is not used, because it never reports the lines that it drops, and does not count lines that
//! could not be written.

use std::collections::VecDeque;
use std::fmt::{self, Debug, Formatter};
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// Makes the line that reports a number of lost lines.
pub type LossLine = fn(lost: u64) -> String;

/// Accepts lines without blocking. Cheap to clone; all clones share one queue and one thread.
#[derive(Clone)]
pub struct Outlet(Arc<SharedQueue>);

struct SharedQueue {
    queue: Mutex<LineQueue>,
    /// Notified when a line was queued or the last one was written.
    changed: Condvar,
    bytes_max: usize,
}

#[derive(Default)]
struct LineQueue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines that did not fit or could not be written and were not yet reported.
    lost: u64,
    /// Whether a line is being written.
    is_writing: bool,
}

impl Outlet {
    /// Starts the thread that writes to `file`. At most `bytes_max` bytes of lines wait for it; further lines are
    /// lost. As soon as a line can be written again, `loss_line` is written before it.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn open(
        name: &str,
        file: impl Write + Send + 'static,
        bytes_max: usize,
        loss_line: LossLine,
    ) -> io::Result<Self> {
        let outlet = Self(Arc::new(SharedQueue {
            queue: Mutex::default(),
            changed: Condvar::new(),
            bytes_max,
        }));
        let writer = outlet.clone();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || writer.write_all(file, loss_line))?;
        Ok(outlet)
    }

    /// Queues a line, its line feed included. The line is lost if the queue is full.
    pub fn push(&self, line: Vec<u8>) {
        if !self.offer(line) {
            self.queue().lost += 1;
        }
    }

    /// Queues a line, its line feed included, unless the queue is full. Returns whether it did.
    pub fn offer(&self, line: Vec<u8>) -> bool {
        let mut queue = self.queue();
        if queue.bytes + line.len() > self.0.bytes_max {
            return false;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line);
        drop(queue);
        self.0.changed.notify_all();
        true
    }

    /// The number of lost lines that were not yet reported in the file.
    pub fn lost(&self) -> u64 {
        self.queue().lost
    }

    /// Waits until every queued line is written, for at most `patience`.
    pub fn flush(&self, patience: Duration) {
        let waits = |queue: &mut LineQueue| queue.is_writing || !queue.lines.is_empty();
        let changed = &self.0.changed;
        drop(changed.wait_timeout_while(self.queue(), patience, waits));
    }

    /// Body of the thread: writes the queued lines until the process ends.
    fn write_all(self, mut file: impl Write, loss_line: LossLine) {
        loop {
            let (line, lost) = self.next();
            let told = match lost {
                0 => Ok(()),
                lost => file.write_all(loss_line(lost).as_bytes()),
            };
            let written = told.is_ok() && file.write_all(&line).and_then(|()| file.flush()).is_ok();
            let mut queue = self.queue();
            queue.is_writing = false;
            queue.lost -= if told.is_ok() { lost } else { 0 };
            queue.lost += u64::from(!written);
            drop(queue);
            self.0.changed.notify_all();
        }
    }

    /// Waits for a line; returns it with the number of lines lost before it.
    fn next(&self) -> (Vec<u8>, u64) {
        let idle = |queue: &mut LineQueue| queue.lines.is_empty();
        let changed = &self.0.changed;
        let mut queue = changed
            .wait_while(self.queue(), idle)
            .expect("no holder of this lock can panic");
        let line = queue.lines.pop_front().unwrap_or_default();
        queue.bytes -= line.len();
        queue.is_writing = true;
        (line, queue.lost)
    }

    fn queue(&self) -> MutexGuard<'_, LineQueue> {
        let queue = self.0.queue.lock();
        queue.expect("no holder of this lock can panic")
    }
}

impl Debug for Outlet {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Outlet").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// A file whose writes block until the test sends their result.
    struct Gate {
        tried: Sender<Vec<u8>>,
        ends: Receiver<io::Result<()>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.tried.send(bytes.to_vec());
            let end = self.ends.recv().unwrap_or(Ok(()));
            end.map(|()| bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gate() -> (Gate, Receiver<Vec<u8>>, Sender<io::Result<()>>) {
        let (tried, tries) = mpsc::channel();
        let (end, ends) = mpsc::channel();
        (Gate { tried, ends }, tries, end)
    }

    fn loss(lost: u64) -> String {
        format!("{lost} lost\n")
    }

    fn tried(tries: &Receiver<Vec<u8>>) -> String {
        let bytes = tries.recv_timeout(PATIENCE).expect("a write");
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_blocking_file_loses_lines_and_the_next_line_reports_their_number() {
        let (file, tries, end) = gate();
        let outlet = Outlet::open("test", file, 8, loss).expect("a thread");
        outlet.push(b"one\n".to_vec());
        assert_eq!(tried(&tries), "one\n");
        // At most 8 bytes wait: the fourth line does not fit, the fifth does.
        for line in ["two\n", "3\n", "four\n", "5\n"] {
            outlet.push(line.into());
        }
        for _ in 0..5 {
            end.send(Ok(())).expect("the thread lives");
        }
        let rest: Vec<String> = (0..4).map(|_| tried(&tries)).collect();
        assert_eq!(rest, ["1 lost\n", "two\n", "3\n", "5\n"]);
        outlet.flush(PATIENCE);
        assert_eq!(outlet.lost(), 0);
    }

    #[test]
    fn a_failing_file_loses_lines_until_it_recovers() {
        let (file, tries, end) = gate();
        let outlet = Outlet::open("test", file, 1000, loss).expect("a thread");
        for line in ["a\n", "b\n", "c\n"] {
            outlet.push(line.into());
        }
        let full = || Err(io::ErrorKind::StorageFull.into());
        // The first line fails, and so does the loss line before the second.
        for result in [full(), full(), Ok(()), Ok(())] {
            end.send(result).expect("the thread lives");
        }
        let all: Vec<String> = (0..4).map(|_| tried(&tries)).collect();
        assert_eq!(all, ["a\n", "1 lost\n", "2 lost\n", "c\n"]);
    }

    #[test]
    fn waiting_for_a_blocking_file_ends_after_the_given_time() {
        let (file, _tries, _end) = gate();
        let outlet = Outlet::open("test", file, 1000, loss).expect("a thread");
        outlet.push(b"a\n".to_vec());
        outlet.flush(Duration::from_millis(10));
    }
}
