//! Log lines about the journal of jobs.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use tracing::{error, info, warn};

use super::ms;

/// The journal was read: what it brings back.
pub fn restored(unanswered: usize, pictures: usize, took: Duration) {
    info!(
        unanswered,
        pictures,
        took_ms = ms(took),
        "Restored the jobs of the last daemon"
    );
}

/// The journal was damaged, and a new one begins.
pub fn moved_aside(path: &Path, aside: &Path, error: &dyn Display) {
    error!(path = %path.display(), aside = %aside.display(), %error, "The journal is damaged; a new one begins");
}

/// The journal cannot be written, so detached requests are refused.
pub fn failing(path: &Path, error: &dyn Display) {
    error!(path = %path.display(), %error, "Cannot write the journal; detached requests are refused until it can be written");
}

/// The journal can be written again.
pub fn works_again(path: &Path) {
    info!(path = %path.display(), "The journal can be written again");
}

/// No journal is kept: detached jobs end with the daemon.
pub fn none_kept(error: &dyn Display) {
    warn!(%error, "No journal is kept; detached jobs end with the daemon");
}

/// A record of the journal cannot be read.
pub fn record_skipped(kind: &str, key: &dyn Display, error: &dyn Display) {
    warn!(kind, %key, %error, "A record of the journal cannot be read");
}

/// Orders were dropped, because the disk is too slow.
pub fn orders_dropped(count: u64) {
    warn!(
        count,
        "Orders to the journal were dropped; the disk is too slow"
    );
}

/// The pixels of a finished picture cannot be kept, so the next daemon would draw it again.
pub fn pixels_not_kept(job: u64, error: &dyn Display) {
    warn!(job, %error, "Cannot keep a picture in the journal; a restart draws it again");
}

/// The pixels of a picture of the last daemon cannot be read, so it is drawn again.
pub fn pixels_lost(job: u64, error: &dyn Display) {
    warn!(job, %error, "Cannot read a picture of the journal; it is drawn again");
}
