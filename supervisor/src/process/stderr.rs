//! The last lines a worker wrote, kept for its obituary and for `tail`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use ipc_protocol::untrusted::Untrusted;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

/// Lines kept per worker.
const LINES_MAX: usize = 200;
/// Bytes of one line; longer ones are split.
const LINE_BYTES_MAX: u64 = 4096;

/// The newest lines of one worker. Cheap to clone; all clones see the same lines.
#[derive(Debug, Clone, Default)]
pub struct LastLines(Arc<Mutex<VecDeque<String>>>);

impl LastLines {
    /// The newest lines, oldest first.
    pub fn newest(&self, count: usize) -> Vec<String> {
        let lines = self.0.lock().expect("no holder of this lock can panic");
        let skip = lines.len().saturating_sub(count);
        lines.iter().skip(skip).cloned().collect()
    }

    fn push(&self, line: String) {
        let mut lines = self.0.lock().expect("no holder of this lock can panic");
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// Reads a worker's stderr until it closes: a full pipe would block the worker. `tell` gets each line.
pub async fn follow(pipe: impl AsyncRead + Unpin, lines: LastLines, tell: impl Fn(&str)) {
    let mut reader = BufReader::new(pipe);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let read = (&mut reader)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut bytes)
            .await;
        match read {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let line = Untrusted::new(String::from_utf8_lossy(&bytes).trim_end()).to_string();
                tell(&line);
                lines.push(line);
            }
        }
    }
}
