//! The record of a worker that ended: on the wire, and as JSON in the daemon's state folder.
//!
//! Prompts are not in it. Its last lines are what the worker printed, as lines without control characters.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// Last lines that are kept of a worker.
pub const LINES_MAX: usize = 200;
/// Bytes of all last lines, so that an obituary fits a frame.
pub const LINES_BYTES_MAX: usize = 32 * 1024;
/// Bytes of any other text.
const TEXT_BYTES_MAX: usize = 1024;
/// Sentences about the time after the end.
const SENTENCES_MAX: usize = 8;
/// Devices with reserved memory.
const DEVICES_MAX: usize = 32;
/// Bytes of the name of a device.
const NAME_BYTES_MAX: usize = 64;

/// The record of one worker process whose end the pool did not want, or that it stopped for its own fault.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode, Serialize, Deserialize)]
pub struct Obituary {
    /// The worker's name, `MODEL:SLOT`.
    pub worker: String,
    /// The model's key.
    pub model: String,
    /// The worker's generation, never used twice by one daemon.
    pub generation: u64,
    /// Its process id; `None` if its process could not be made.
    pub pid: Option<u32>,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// When it ended: UTC, RFC 3339.
    pub time: String,
    /// Seconds that it lived.
    pub uptime_s: f64,
    /// The process id of its daemon.
    pub supervisor_pid: u32,
    /// The class of the end: the word of log lines (`reason`) and of `imagepool_worker_exits_total`.
    pub class: String,
    /// How it ended, in a sentence.
    pub sentence: String,
    /// Its exit code, if it exited by itself.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The sender of that signal: `us`, `operator` for `imagepool signal`, `kernel`, `itself`, `other` for another
    /// process, which the kernel does not name, or `unknown` for the worker itself or another process.
    pub sender: Option<String>,
    /// Its state: `starting`, `idle`, `busy` or `stopping`.
    pub state: String,
    /// Progress of its load from 0 to 1, while it was starting.
    pub load_progress: Option<f32>,
    /// The job that it had.
    pub job: Option<u64>,
    /// The number of that job's attempt, from 1.
    pub attempt: Option<u32>,
    /// The last finished step of that job.
    pub step: Option<u32>,
    /// All steps of that job.
    pub steps: Option<u32>,
    /// Jobs that it had finished.
    pub jobs_done: u64,
    /// Memory reserved for it, by device, in MiB.
    pub reserved_mb: BTreeMap<String, u64>,
    /// Memory that it used when it was last measured, over all devices, in MiB.
    pub measured_mb: Option<u64>,
    /// The most host memory that it used, in MiB.
    pub peak_mb: Option<u64>,
    /// The digest of the files that it loaded; empty if it is not known.
    pub files: String,
    /// Its own message about a load that failed.
    pub message: Option<String>,
    /// Unwanted ends of its model's workers since the last picture, this one included.
    pub in_a_row: u32,
    /// Seconds until another worker of its model may start.
    pub backoff_s: f64,
    /// The consequences, in sentences: for its job, and for its model.
    pub next: Vec<String>,
    /// Its last lines on stderr, oldest first.
    pub lines: Vec<String>,
    /// Earlier lines that were not kept although they were among the last 200.
    pub lines_left_out: u32,
}

impl Obituary {
    /// Shortens all texts to their limits. Keeps the newest lines.
    pub fn bounded(mut self) -> Self {
        let texts = [
            &mut self.worker,
            &mut self.model,
            &mut self.device,
            &mut self.time,
            &mut self.class,
            &mut self.sentence,
            &mut self.state,
            &mut self.files,
        ];
        let optional = [&mut self.sender, &mut self.message];
        texts.into_iter().for_each(cut);
        optional.into_iter().flatten().for_each(cut);
        self.next.truncate(SENTENCES_MAX);
        self.next.iter_mut().for_each(cut);
        let devices = std::mem::take(&mut self.reserved_mb).into_iter();
        let named = devices.filter(|(device, _)| device.len() <= NAME_BYTES_MAX);
        self.reserved_mb = named.take(DEVICES_MAX).collect();
        self.bound_lines();
        self
    }

    fn bound_lines(&mut self) {
        let mut bytes = 0;
        let fits = |line: &&String| {
            // A line's length takes some bytes too.
            bytes += line.len() + 4;
            bytes <= LINES_BYTES_MAX
        };
        let newest = self.lines.iter().rev().take(LINES_MAX);
        let left_out = self.lines.len() - newest.take_while(fits).count();
        self.lines.drain(..left_out);
        let left_out = u32::try_from(left_out).unwrap_or(u32::MAX);
        self.lines_left_out = self.lines_left_out.saturating_add(left_out);
    }
}

fn cut(text: &mut String) {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;
    use crate::messages::client::FromPool;

    /// An obituary with this text everywhere, and these lines.
    fn all(text: &str, lines: Vec<String>) -> Obituary {
        let text = || text.to_owned();
        Obituary {
            worker: text(),
            model: text(),
            generation: u64::MAX,
            pid: Some(u32::MAX),
            device: text(),
            time: text(),
            uptime_s: f64::MAX,
            supervisor_pid: u32::MAX,
            class: text(),
            sentence: text(),
            exit_code: Some(i32::MIN),
            signal: Some(i32::MIN),
            sender: Some(text()),
            state: text(),
            load_progress: Some(1.0),
            job: Some(u64::MAX),
            attempt: Some(u32::MAX),
            step: Some(u32::MAX),
            steps: Some(u32::MAX),
            jobs_done: u64::MAX,
            reserved_mb: (0..100).map(|n| (format!("cuda:{n}"), u64::MAX)).collect(),
            measured_mb: Some(u64::MAX),
            peak_mb: Some(u64::MAX),
            files: text(),
            message: Some(text()),
            in_a_row: u32::MAX,
            backoff_s: f64::MAX,
            next: vec![text(); 100],
            lines,
            lines_left_out: 0,
        }
    }

    #[test]
    fn the_largest_obituary_fits_a_frame() {
        for line in ["", "x", &"ü".repeat(2000)] {
            let obituary = all(&"ä".repeat(5000), vec![line.to_owned(); 5000]).bounded();
            frame::encode(&FromPool::Obituary(Box::new(obituary))).expect("it fits");
        }
    }

    #[test]
    fn the_newest_lines_are_kept_and_the_others_counted() {
        let lines = (0..300).map(|number| number.to_string()).collect();
        let obituary = all("", lines).bounded();
        assert_eq!(obituary.lines.len(), LINES_MAX);
        assert_eq!(obituary.lines.last().map(String::as_str), Some("299"));
        assert_eq!(obituary.lines_left_out, 100);
        let long = all(
            "",
            vec!["y".repeat(20_000), "x".repeat(20_000), "end".into()],
        );
        let long = long.bounded();
        assert_eq!((long.lines.len(), long.lines_left_out), (2, 1));
    }
}
