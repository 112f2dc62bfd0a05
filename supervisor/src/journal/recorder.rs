//! The file that a daemon's events go to.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use pool::{Event, Moment};
use serde::{Deserialize, Serialize};

use super::write;

/// The first line: what the pool was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beginning {
    /// The settings file, as it was read.
    pub settings: String,
    /// Host memory that may be promised, in MiB.
    pub host_limit_mb: u64,
    /// Threads of a worker whose section names no number.
    pub threads: u32,
}

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
        serde_json::to_writer(&mut file, beginning)?;
        file.write_all(b"\n")?;
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
