//! The file that a daemon's events go to.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use pool::{Event, Moment};

use super::beginning::Beginning;
use super::write;
use crate::telemetry::outlet::Outlet;

/// Bytes of events that may wait for the disk.
const QUEUE_BYTES_MAX: usize = 8 << 20;
/// How long the last events may take to be written once the loop has ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// Writes a line per event, in a thread of its own: a disk that is slow or full does not hold up the loop. Each
/// line is written at once, because a record is read after the daemon was killed.
#[derive(Debug)]
pub struct Recorder(Outlet);

/// Why a record ended before its daemon: a record with a gap cannot be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Events happen faster than they are written.
    #[error("the disk is too slow: {} MiB of events wait to be written", QUEUE_BYTES_MAX >> 20)]
    Behind,
    /// A line could not be written.
    #[error("the file cannot be written any more; is its disk full?")]
    Failed,
}

impl Recorder {
    /// Begins a record.
    ///
    /// # Errors
    /// The file cannot be written, or the kernel gives no thread.
    pub fn begin(path: &Path, beginning: &Beginning) -> io::Result<Self> {
        let mut file = File::create(path)?;
        writeln!(file, "{}", beginning.line()?)?;
        Self::to(file)
    }

    fn to(file: impl Write + Send + 'static) -> io::Result<Self> {
        let file = UntilError {
            file,
            failed: false,
        };
        // Nothing is written after a line that is lost, so no line tells of it.
        let outlet = Outlet::open("record", file, QUEUE_BYTES_MAX, |_| String::new())?;
        Ok(Self(outlet))
    }

    /// Records an event.
    ///
    /// # Errors
    /// The record has ended; no further event belongs in it.
    pub fn record(&self, now: Moment, event: &Event) -> Result<(), RecordError> {
        if self.0.lost() > 0 {
            return Err(RecordError::Failed);
        }
        match write::line(now, event) {
            Some(line) if !self.0.offer(format!("{line}\n").into_bytes()) => {
                Err(RecordError::Behind)
            }
            _ => Ok(()),
        }
    }

    /// Waits until everything is written, no longer than a few seconds.
    pub fn finish(&self) {
        self.0.flush(PATIENCE);
    }
}

/// A file that takes nothing after its first error: half a line, then others, would be no record.
struct UntilError<F> {
    file: F,
    failed: bool,
}

impl<F: Write> Write for UntilError<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let written = self.file.write(bytes);
        self.failed = matches!(&written, Err(error) if error.kind() != io::ErrorKind::Interrupted);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use ipc_protocol::ids::Generation;

    use super::*;

    fn heard() -> Event {
        let worker = Generation(1);
        Event::WorkerHeard { worker }
    }

    /// A disk that does nothing until it is let go.
    struct Stuck(mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_disk_that_does_not_keep_up_ends_the_record_and_not_the_loop() {
        let (_held, hold) = mpsc::channel();
        let record = Recorder::to(Stuck(hold)).expect("a thread");
        let line = write::line(Moment(0), &heard()).expect("it is recorded");
        let fits = QUEUE_BYTES_MAX / line.len() + 2;
        let end = (0..fits).find_map(|_| record.record(Moment(0), &heard()).err());
        assert_eq!(end, Some(RecordError::Behind));
    }

    #[test]
    fn a_full_disk_ends_the_record_at_the_line_that_found_it_full() {
        let full = File::options()
            .write(true)
            .open("/dev/full")
            .expect("Linux has it");
        let record = Recorder::to(full).expect("a thread");
        record.record(Moment(0), &heard()).expect("it is queued");
        record.finish();
        let end = record.record(Moment(1), &heard());
        assert_eq!(end, Err(RecordError::Failed));
    }
}
