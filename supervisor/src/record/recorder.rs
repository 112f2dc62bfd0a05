//! Writes a daemon's events to a file.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use pool::{Event, Moment};

use super::beginning::Beginning;
use super::write;
use crate::telemetry::outlet::Outlet;

/// Most bytes of events that wait for the disk.
const QUEUE_BYTES_MAX: usize = 8 << 20;
/// How long writing the last events may take after the loop has ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// Writes a line per event, in a separate thread, so that a slow or full disk does not block the loop. Each line
/// is written at once, so that the record is complete even if the daemon is killed.
#[derive(Debug)]
pub struct Recorder(Outlet);

/// Why a record ended early. A record with a gap cannot be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Events arrive faster than the disk writes them.
    #[error("the disk is too slow: {} MiB of events wait to be written", QUEUE_BYTES_MAX >> 20)]
    Behind,
    /// A line could not be written.
    #[error("the file cannot be written any more: is its disk full?")]
    Failed,
}

impl Recorder {
    /// Creates the file and writes the beginning.
    ///
    /// # Errors
    /// The file cannot be written, or no thread can be started.
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
        // Nothing is written after a lost line, so no line needs to report it.
        let outlet = Outlet::open("record", file, QUEUE_BYTES_MAX, |_| String::new())?;
        Ok(Self(outlet))
    }

    /// Records an event; `settings` is the text of the settings in use.
    ///
    /// # Errors
    /// The record has ended; the caller must record no further event.
    pub fn record(&self, now: Moment, event: &Event, settings: &str) -> Result<(), RecordError> {
        if self.0.lost() > 0 {
            return Err(RecordError::Failed);
        }
        let line = match event {
            Event::SettingsChanged { .. } => Some(write::settings_line(now, settings)),
            _ => write::line(now, event),
        };
        match line {
            Some(line) if !self.0.offer(format!("{line}\n").into_bytes()) => {
                Err(RecordError::Behind)
            }
            _ => Ok(()),
        }
    }

    /// Waits until all events are written, at most `PATIENCE`.
    pub fn finish(&self) {
        self.0.flush(PATIENCE);
    }
}

/// A file that accepts no writes after its first error, so that no line follows an incomplete one.
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

    /// A disk that blocks until the other end of the channel is dropped.
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
    fn a_slow_disk_ends_the_record_and_does_not_block_the_loop() {
        let (_held, hold) = mpsc::channel();
        let record = Recorder::to(Stuck(hold)).expect("a thread");
        let line = write::line(Moment(0), &heard()).expect("it is recorded");
        let fits = QUEUE_BYTES_MAX / line.len() + 2;
        let end = (0..fits).find_map(|_| record.record(Moment(0), &heard(), "").err());
        assert_eq!(end, Some(RecordError::Behind));
    }

    #[test]
    fn a_full_disk_ends_the_record_after_the_first_failed_line() {
        let full = File::options()
            .write(true)
            .open("/dev/full")
            .expect("Linux has it");
        let record = Recorder::to(full).expect("a thread");
        record
            .record(Moment(0), &heard(), "")
            .expect("it is queued");
        record.finish();
        let end = record.record(Moment(1), &heard(), "");
        assert_eq!(end, Err(RecordError::Failed));
    }
}
