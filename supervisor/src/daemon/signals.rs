//! Handles the daemon's signals.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::notifier::Notifier;
use crate::clock::Clock;
use crate::driver::handle::Handle;
use crate::process::children;
use crate::telemetry;

/// Handles signals: the first SIGTERM or SIGINT drains, the second cancels all jobs. SIGHUP reads the settings
/// and the files of all models again. The service manager hears of each. SIGCHLD reaps adopted processes.
pub(super) async fn heed_signals(handle: Handle, notifier: Arc<Notifier>, clock: Clock) {
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup), Ok(mut child)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::hangup()),
        signal(SignalKind::child()),
    ) else {
        return telemetry::daemon::no_signals();
    };
    let mut cancel = false;
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = child.recv() => {
                // Nothing waits for it.
                tokio::task::spawn_blocking(children::reap);
                continue;
            }
            _ = hangup.recv() => {
                // Reading the settings must not delay a SIGTERM.
                tokio::spawn(reload(handle.clone(), Arc::clone(&notifier), clock));
                continue;
            }
        }
        notifier.stopping().await;
        if handle.drain(cancel).await.is_err() {
            return; // The loop has ended.
        }
        cancel = true;
    }
}

/// Reloads. The service manager learns when it begins, and that the daemon serves once the loop has done it.
async fn reload(handle: Handle, notifier: Arc<Notifier>, clock: Clock) {
    notifier.reloading(clock).await;
    // Without a loop the daemon is ending. The log tells how it went.
    if handle.reload().await.is_ok() {
        notifier.ready().await;
    }
}
