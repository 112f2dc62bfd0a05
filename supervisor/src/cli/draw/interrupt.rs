//! Ctrl-C cancels what was asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ipc_protocol::client::Canceller;
use ipc_protocol::ids::JobId;
use ipc_protocol::messages::client::Accepted;

/// Ctrl-C cancels the jobs, whose answers then end the command; a second one ends it at once. True once
/// it was pressed.
pub fn cancels(canceller: Canceller, accepted: &Accepted) -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let (mark, first, count) = (Arc::clone(&interrupted), accepted.first.0, accepted.count);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        // Without it Ctrl-C ends this program the usual way, and the pool cancels for us.
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            while tokio::signal::ctrl_c().await.is_ok() {
                if mark.swap(true, Ordering::AcqRel) {
                    std::process::exit(130);
                }
                for job in (first..).take(count as usize) {
                    // A daemon that is gone has ended the jobs already.
                    let _ = canceller.cancel(JobId(job));
                }
            }
        });
    });
    interrupted
}
