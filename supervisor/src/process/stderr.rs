//! Keeps the last lines that a worker wrote, and limits how many of them are logged.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipc_protocol::untrusted::Untrusted;
use pool::Moment;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::time::timeout;

use crate::allowance::Allowance;
use crate::line_ring::LineRing;

/// Lines kept per worker.
const LINES_MAX: usize = 200;
/// Longest line in bytes; longer ones are split.
const LINE_BYTES_MAX: u64 = 4096;
/// Limits of the lines and bytes that one worker may write to the log.
const LINES_PER_SECOND: u64 = 20;
const LINES_BURST: u64 = 200;
const BYTES_PER_SECOND: u64 = 16 << 10;
const BYTES_BURST: u64 = 64 << 10;
/// How often the number of hidden lines is logged.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// The newest lines of one worker. Cheap to clone; all clones see the same lines.
#[derive(Debug, Clone, Default)]
pub struct LastLines {
    newest: Arc<Mutex<VecDeque<String>>>,
    /// The log of all workers that have had the same name.
    log: Option<LineRing>,
}

impl LastLines {
    /// No lines yet; each further line is added to `log` too.
    pub fn copied_to(log: LineRing) -> Self {
        Self {
            newest: Arc::default(),
            log: Some(log),
        }
    }

    /// The newest lines, oldest first.
    pub fn newest(&self, count: usize) -> Vec<String> {
        let lines = self.newest.lock();
        let lines = lines.expect("no holder of this lock can panic");
        let skip = lines.len().saturating_sub(count);
        lines.iter().skip(skip).cloned().collect()
    }

    fn push(&self, line: String) {
        if let Some(log) = &self.log {
            log.push(line.clone());
        }
        let lines = self.newest.lock();
        let mut lines = lines.expect("no holder of this lock can panic");
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// An event on a worker's stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StderrEvent<'a> {
    /// A line to log.
    Line(&'a str),
    /// The number of lines that were hidden because they exceeded the limits.
    Hidden(u64),
}

/// Reads a worker's stderr until it closes, because a full pipe would block the worker. Keeps the newest lines, and
/// passes to `tell` those within the limits and regularly the number of the hidden ones.
pub async fn follow(
    pipe: impl AsyncRead + Unpin,
    lines: LastLines,
    now: impl Fn() -> Moment,
    tell: impl Fn(StderrEvent<'_>),
) {
    let mut reader = BufReader::new(pipe);
    let mut bytes = Vec::new();
    let mut limit = Limit::default();
    loop {
        let room = LINE_BYTES_MAX - bytes.len() as u64;
        let mut rest = (&mut reader).take(room);
        let read = timeout(TELL_EVERY, rest.read_until(b'\n', &mut bytes)).await;
        limit.tell_hidden(now(), &tell);
        let read = match read {
            Ok(read) => read.unwrap_or(0),
            Err(_) => continue, // The part of the line that was read stays in `bytes`.
        };
        if read == 0 && bytes.is_empty() {
            return limit.tell_all_hidden(&tell);
        }
        let line = Untrusted::new(String::from_utf8_lossy(&bytes).trim_end()).to_string();
        if limit.admits(now(), line.len() as u64) {
            tell(StderrEvent::Line(&line));
        }
        lines.push(line);
        bytes.clear();
    }
}

/// How much a worker may write to the log.
#[derive(Debug)]
struct Limit {
    lines: Allowance,
    bytes: Allowance,
    hidden: u64,
    /// When the first line was hidden that was not yet reported.
    since: Option<Moment>,
}

impl Default for Limit {
    fn default() -> Self {
        Self {
            lines: Allowance::new(LINES_PER_SECOND, LINES_BURST),
            bytes: Allowance::new(BYTES_PER_SECOND, BYTES_BURST),
            hidden: 0,
            since: None,
        }
    }
}

impl Limit {
    /// Whether a line of `bytes` bytes may be logged.
    fn admits(&mut self, now: Moment, bytes: u64) -> bool {
        let admits = self.lines.take(now, 1).is_ok() && self.bytes.take(now, bytes).is_ok();
        if !admits {
            self.hidden += 1;
            self.since.get_or_insert(now);
        }
        admits
    }

    /// Reports the hidden lines if [`TELL_EVERY`] has passed.
    fn tell_hidden(&mut self, now: Moment, tell: impl Fn(StderrEvent<'_>)) {
        if self
            .since
            .is_some_and(|since| now.since(since) >= TELL_EVERY)
        {
            self.tell_all_hidden(tell);
        }
    }

    fn tell_all_hidden(&mut self, tell: impl Fn(StderrEvent<'_>)) {
        self.since = None;
        match std::mem::take(&mut self.hidden) {
            0 => {}
            hidden => tell(StderrEvent::Hidden(hidden)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// Follows these bytes with a clock that advances by `step` at each call; returns the logged and the last lines.
    async fn told(bytes: &[u8], step: Duration) -> (Vec<String>, LastLines) {
        let (lines, told) = (LastLines::default(), RefCell::new(Vec::new()));
        let moment = Cell::new(Moment::START);
        let now = || {
            moment.set(moment.get() + step);
            moment.get()
        };
        follow(bytes, lines.clone(), now, |what| {
            told.borrow_mut().push(match what {
                StderrEvent::Line(line) => line.to_owned(),
                StderrEvent::Hidden(count) => format!("{count} hidden"),
            });
        })
        .await;
        (told.into_inner(), lines)
    }

    #[tokio::test]
    async fn few_lines_are_all_logged() {
        let (told, lines) = told(b"one\ntwo\n\nthree", Duration::ZERO).await;
        assert_eq!(told, ["one", "two", "", "three"]);
        assert_eq!(lines.newest(2), ["", "three"]);
    }

    #[tokio::test]
    async fn a_flood_is_logged_as_a_burst_and_a_number_and_its_end_is_kept() {
        let flood: String = (0..5000).map(|number| format!("{number}\n")).collect();
        let (told, lines) = told(flood.as_bytes(), Duration::ZERO).await;
        let burst = LINES_BURST as usize;
        assert_eq!(told[burst - 1], format!("{}", burst - 1));
        assert_eq!(told[burst..], [format!("{} hidden", 5000 - burst)]);
        assert_eq!(lines.newest(1), ["4999"]);
    }

    #[tokio::test]
    async fn long_lines_are_hidden_although_they_are_few() {
        let line = "x".repeat(LINE_BYTES_MAX as usize - 1);
        let flood = format!("{line}\n").repeat(100);
        let (told, _) = told(flood.as_bytes(), Duration::ZERO).await;
        let shown: usize = told.iter().filter(|line| line.starts_with('x')).count();
        assert_eq!(shown as u64, BYTES_BURST / (LINE_BYTES_MAX - 1));
    }

    #[tokio::test]
    async fn a_continuing_flood_is_counted_every_ten_seconds() {
        let flood = "x\n".repeat(50_000);
        // Fifty seconds in total, two calls of the clock per line.
        let (told, _) = told(flood.as_bytes(), Duration::from_micros(500)).await;
        let counted = told.iter().filter(|line| line.ends_with("hidden")).count();
        assert_eq!(counted, 5, "one every ten seconds, and one at the end");
        let shown = told.len() - counted;
        assert!((1100..1300).contains(&shown), "{shown} lines in 50 s");
    }
}
