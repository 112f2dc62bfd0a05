//! The lines about the daemon itself: its start, its loop, its record, the machine.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use tracing::{error, info, warn};

use super::ms;

/// The door is open.
pub fn serving(socket: &Path) {
    info!(socket = %socket.display(), "Serving.");
}

/// What killed daemons left was removed.
pub fn swept(segments: usize, folders: usize) {
    info!(
        segments,
        folders, "Removed segments and folders that killed daemons left"
    );
}

/// Signals will end the process at once.
pub fn no_signals() {
    error!("Cannot listen for signals");
}

/// The folder of a private pool stays behind.
pub fn folder_stays(error: &dyn Display) {
    warn!(%error, "Cannot remove the runtime folder");
}

/// The loop was kept from running for this long.
pub fn stalled(lasted: Duration) {
    warn!(lasted_ms = ms(lasted), "The daemon could not run");
}

/// No further events are recorded.
pub fn record_ended(error: &dyn Display) {
    error!(%error, "The record ends here");
}

/// The machine's memory is unknown, so none of it is used.
pub fn memory_unknown(error: &dyn Display) {
    warn!(%error, "Cannot read the machine's memory");
}
