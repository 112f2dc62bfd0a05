//! A program's stderr, line by line, for tests that wait for a word.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// The lines so far. All clones see the same.
#[derive(Debug, Clone, Default)]
pub struct OutputLines(Arc<FollowedOutput>);

#[derive(Debug, Default)]
struct FollowedOutput {
    said: Mutex<LinesSoFar>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct LinesSoFar {
    lines: Vec<String>,
    over: bool,
}

impl OutputLines {
    /// Follows a pipe in a thread of its own until it closes.
    pub fn follow(pipe: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let shared = lines.clone();
        thread::spawn(move || {
            let mut reader = BufReader::new(pipe);
            let mut line = Vec::new();
            while reader
                .read_until(b'\n', &mut line)
                .is_ok_and(|read| read > 0)
            {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                shared.said().lines.push(text);
                shared.0.more.notify_all();
                line.clear();
            }
            shared.said().over = true;
            shared.0.more.notify_all();
        });
        lines
    }

    /// Every line so far.
    pub fn all(&self) -> Vec<String> {
        self.said().lines.clone()
    }

    /// The lines with `word` in them.
    pub fn with(&self, word: &str) -> Vec<String> {
        let mut lines = self.all();
        lines.retain(|line| line.contains(word));
        lines
    }

    /// Waits until `count` lines hold `word`; returns the last of them.
    pub fn wait_for(&self, word: &str, count: usize, patience: Duration) -> String {
        match self.wait(word, count, patience) {
            Some(line) => line,
            None => panic!(
                "no {count} lines with {word:?} within {patience:?}:\n{}",
                self.all().join("\n")
            ),
        }
    }

    /// Waits until `count` lines hold `word`, the program has closed its stderr, or `patience` is over.
    pub fn wait(&self, word: &str, count: usize, patience: Duration) -> Option<String> {
        let nth = |said: &LinesSoFar| {
            said.lines
                .iter()
                .filter(|line| line.contains(word))
                .nth(count - 1)
                .cloned()
        };
        let (said, _) = self
            .0
            .more
            .wait_timeout_while(self.said(), patience, |said| {
                !said.over && nth(said).is_none()
            })
            .expect("no holder of this lock can panic");
        nth(&said)
    }

    fn said(&self) -> MutexGuard<'_, LinesSoFar> {
        self.0
            .said
            .lock()
            .expect("no holder of this lock can panic")
    }
}
