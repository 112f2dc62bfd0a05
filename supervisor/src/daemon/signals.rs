//! Handles the daemon's signals.

use std::sync::Arc;

use ipc_protocol::failure::Failure;
use tokio::signal::unix::{SignalKind, signal};

use super::notifier::Notifier;
use crate::clock::Clock;
use crate::driver::handle::Handle;
use crate::telemetry;

/// Handles signals: the first SIGTERM or SIGINT drains, the second cancels all jobs. SIGHUP inspects the files of
/// all models again. The service manager hears of each.
pub(super) async fn heed_signals(handle: Handle, notifier: Arc<Notifier>, clock: Clock) {
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
                if reload(&handle, &notifier, clock).await.is_err() {
                    return; // The loop has ended.
                }
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
async fn reload(handle: &Handle, notifier: &Notifier, clock: Clock) -> Result<(), Failure> {
    notifier.reloading(clock).await;
    handle.reread().await?;
    handle.pulse().await?;
    notifier.ready().await;
    Ok(())
}
