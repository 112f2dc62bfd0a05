//! The file that a daemon's events go to.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use pool::{Event, Moment};

use super::beginning::Beginning;
use super::write;

/// Writes a line per event, and flushes it: a record is read after the daemon was killed.
#[derive(Debug)]
pub struct Recorder(BufWriter<File>);

impl Recorder {
    /// Begins a record.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn begin(path: &Path, beginning: &Beginning) -> io::Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        writeln!(file, "{}", beginning.line()?)?;
        file.flush()?;
        Ok(Self(file))
    }

    /// Records an event.
    ///
    /// # Errors
    /// The file cannot be written any more.
    pub fn record(&mut self, now: Moment, event: &Event) -> io::Result<()> {
        if let Some(line) = write::line(now, event) {
            writeln!(self.0, "{line}")?;
            self.0.flush()?;
        }
        Ok(())
    }
}
