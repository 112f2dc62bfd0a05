//! The newest log lines of this process, in memory.

use std::sync::LazyLock;

use crate::line_ring::LineRing;

/// Most bytes of kept lines.
const BYTES_MAX: usize = 256 << 10;

static RECENT: LazyLock<LineRing> = LazyLock::new(|| LineRing::new(BYTES_MAX));

/// The newest log lines of this process.
pub fn own_log() -> LineRing {
    RECENT.clone()
}

/// Keeps one line, its line feed included; of an entry for journald its message, which is the last field.
pub(super) fn keep(line: &[u8]) {
    let line = String::from_utf8_lossy(line);
    // Line feeds in a message are escaped.
    let line = line
        .rsplit_once("\nMESSAGE=")
        .map_or(&*line, |(_, message)| message);
    RECENT.push(line.trim_end_matches('\n').to_owned());
}
