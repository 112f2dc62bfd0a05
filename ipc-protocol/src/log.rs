//! The lines that workers and the daemon have written, as `imagepool tail` prints them.

use bincode::{Decode, Encode};

use crate::ids::WorkerName;
use crate::lines;

/// The writer of a log.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum LogSource {
    /// The daemon: its own log lines, and the lines of all workers among them.
    Daemon,
    /// All workers that have had this name, one after the other: their stderr.
    Worker(WorkerName),
}

/// Requests the end of a log.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LogRequest {
    /// The writer.
    pub source: LogSource,
    /// The number of bytes from the end, newlines included. Fewer are sent if fewer are kept.
    pub bytes: u64,
    /// True to send further lines too, until the client disconnects.
    pub follow: bool,
}

/// Lines of a log, oldest first. Their control characters are escaped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct LogLines {
    /// The lines; the first one of an answer may be the end of a line.
    pub lines: Vec<String>,
    /// The number of lines before these that were written too fast to be sent.
    pub missed: u64,
}

impl LogLines {
    /// Splits the lines into frames. A line longer than a frame is cut.
    pub fn into_parts(self) -> Vec<Self> {
        let mut missed = self.missed;
        let parts = lines::split(self.lines).into_iter();
        parts
            .map(|lines| Self {
                lines,
                missed: std::mem::take(&mut missed),
            })
            .collect()
    }

    /// Cuts the lines to their last `bytes` bytes, newlines included.
    pub fn keep_last(&mut self, bytes: u64) {
        let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
        let mut first = self.lines.len();
        while first > 0 && left > 0 {
            first -= 1;
            let line = &mut self.lines[first];
            let whole = line.len() + 1;
            if whole > left {
                let from = line.ceil_char_boundary(whole - left);
                line.drain(..from);
            }
            left = left.saturating_sub(whole);
        }
        self.lines.drain(..first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(lines: &[&str], bytes: u64) -> Vec<String> {
        let mut log = LogLines {
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            missed: 0,
        };
        log.keep_last(bytes);
        log.lines
    }

    #[test]
    fn the_last_bytes_of_a_log_begin_inside_a_line() {
        let lines = ["one", "two", "three"];
        assert_eq!(last(&lines, 0), [""; 0]);
        assert_eq!(last(&lines, 1), [""]);
        assert_eq!(last(&lines, 3), ["ee"]);
        assert_eq!(last(&lines, 6), ["three"]);
        assert_eq!(last(&lines, 8), ["o", "three"]);
        assert_eq!(last(&lines, 14), lines);
        assert_eq!(last(&lines, u64::MAX), lines);
        assert_eq!(last(&["äö"], 4), ["ö"], "no character is split");
    }

    #[test]
    fn missed_lines_are_reported_once() {
        let log = LogLines {
            lines: vec!["x".repeat(20_000); 3],
            missed: 7,
        };
        let parts = log.into_parts();
        let missed: Vec<u64> = parts.iter().map(|part| part.missed).collect();
        assert_eq!(missed, [7, 0, 0]);
    }
}
