//! Handles the daemon's signals.

use tokio::signal::unix::{SignalKind, signal};

use crate::driver::handle::Handle;
use crate::telemetry;

/// Handles signals: the first SIGTERM or SIGINT drains, the second cancels all jobs. SIGHUP inspects the files of
/// all models again.
pub(super) async fn heed_signals(handle: Handle) {
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::hangup()),
    ) else {
        return telemetry::daemon::no_signals();
    };
    let mut cancel = false;
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {
                if handle.reread().await.is_err() {
                    return; // The loop has ended.
                }
                continue;
            }
        }
        if handle.drain(cancel).await.is_err() {
            return; // The loop has ended.
        }
        cancel = true;
    }
}
