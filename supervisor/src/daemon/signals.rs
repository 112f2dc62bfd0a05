//! The signals that a daemon listens for.

use tokio::signal::unix::{SignalKind, signal};

use crate::driver::handle::Handle;
use crate::telemetry;

/// SIGTERM and SIGINT drain; the second one cancels. SIGHUP has the files of all models looked at again.
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
                    return; // The loop has ended already.
                }
                continue;
            }
        }
        if handle.drain(cancel).await.is_err() {
            return; // The loop has ended already.
        }
        cancel = true;
    }
}
