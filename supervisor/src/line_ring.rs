//! The newest lines of a log, in memory: bounded, shared, and followed by any number of readers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use ipc_protocol::log::LogLines;
use tokio::sync::watch;

/// The newest lines of one writer. Cheap to clone; all clones see the same lines.
#[derive(Debug, Clone)]
pub struct LineRing(Arc<SharedLines>);

#[derive(Debug)]
struct SharedLines {
    kept: Mutex<KeptLines>,
    /// The number of lines pushed so far.
    pushed: watch::Sender<u64>,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct KeptLines {
    lines: VecDeque<String>,
    /// Bytes of the lines, a newline for each included.
    bytes: usize,
    pushed: u64,
}

/// A reader that gets every line after those it has got, as long as it keeps up.
#[derive(Debug)]
pub struct LineFollower {
    ring: LineRing,
    /// The lines up to this number are read.
    read: u64,
    pushed: watch::Receiver<u64>,
}

impl LineRing {
    /// An empty ring of at most `bytes_max` bytes of lines. A longer line is kept alone.
    pub fn new(bytes_max: usize) -> Self {
        Self(Arc::new(SharedLines {
            kept: Mutex::default(),
            pushed: watch::channel(0).0,
            bytes_max,
        }))
    }

    /// Adds a line without its newline; the oldest ones leave if there is no room for it.
    pub fn push(&self, line: String) {
        let mut kept = self.kept();
        kept.bytes += line.len() + 1;
        kept.lines.push_back(line);
        kept.pushed += 1;
        while kept.bytes > self.0.bytes_max && kept.lines.len() > 1 {
            kept.drop_oldest();
        }
        self.0.pushed.send_replace(kept.pushed);
    }

    /// Forgets all lines. Followers have read them or are told how many they missed.
    pub fn clear(&self) {
        let mut kept = self.kept();
        kept.lines.clear();
        kept.bytes = 0;
    }

    /// Returns the last `bytes` bytes, newlines included, and a reader of the lines after them.
    pub fn last(&self, bytes: u64) -> (LogLines, LineFollower) {
        let (mut newest, follower) = {
            let kept = self.kept();
            let lines = kept.lines.iter().cloned().collect();
            let follower = LineFollower {
                ring: self.clone(),
                read: kept.pushed,
                pushed: self.0.pushed.subscribe(),
            };
            (LogLines { lines, missed: 0 }, follower)
        };
        newest.keep_last(bytes);
        (newest, follower)
    }

    fn kept(&self) -> MutexGuard<'_, KeptLines> {
        let kept = self.0.kept.lock();
        kept.expect("no holder of this lock can panic")
    }
}

impl LineFollower {
    /// Waits for further lines; returns them all, with the number of those that left before they could be read.
    pub async fn next(&mut self) -> LogLines {
        let read = self.read;
        // The ring is held here, so its sender is not dropped.
        let _ = self.pushed.wait_for(|pushed| *pushed > read).await;
        let kept = self.ring.kept();
        let unread = usize::try_from(kept.pushed - self.read).unwrap_or(usize::MAX);
        let here = unread.min(kept.lines.len());
        let first = kept.lines.len() - here;
        self.read = kept.pushed;
        LogLines {
            lines: kept.lines.iter().skip(first).cloned().collect(),
            missed: (unread - here) as u64,
        }
    }
}

impl KeptLines {
    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.lines.pop_front() {
            self.bytes -= oldest.len() + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_follower_gets_every_line_once_and_the_number_of_those_it_missed() {
        let ring = LineRing::new(10);
        ring.push("one".into());
        let (last, mut follower) = ring.last(100);
        assert_eq!(last.lines, ["one"]);
        ring.push("two".into());
        let next = follower.next().await;
        assert_eq!((next.lines, next.missed), (vec!["two".into()], 0));
        for line in ["3", "4", "5", "6", "7", "8"] {
            ring.push(line.into());
        }
        let next = follower.next().await;
        assert_eq!(next.lines, ["4", "5", "6", "7", "8"]);
        assert_eq!(next.missed, 1);
    }

    #[tokio::test]
    async fn a_cleared_ring_is_empty_and_its_followers_continue() {
        let ring = LineRing::new(100);
        let (_, mut follower) = ring.last(0);
        ring.push("one".into());
        ring.clear();
        assert_eq!(ring.last(100).0, LogLines::default());
        ring.push("two".into());
        let next = follower.next().await;
        assert_eq!((next.lines, next.missed), (vec!["two".into()], 1));
    }

    #[test]
    fn a_line_longer_than_the_ring_is_kept_alone() {
        let ring = LineRing::new(10);
        ring.push("short".into());
        ring.push("longer than the ring".into());
        assert_eq!(ring.last(100).0.lines, ["longer than the ring"]);
    }
}
