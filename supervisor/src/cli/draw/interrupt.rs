//! Cancels the jobs of a request on Ctrl-C.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ipc_protocol::client::Canceller;
use ipc_protocol::ids::JobId;
use ipc_protocol::messages::client::Accepted;

/// Cancels the jobs on the first Ctrl-C, so that their answers end the command; exits on the second. The
/// returned flag is true after the first.
pub fn cancels(canceller: Canceller, accepted: &Accepted) -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let (mark, first, count) = (Arc::clone(&interrupted), accepted.first.0, accepted.count);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        // Without a runtime Ctrl-C kills this process, and the pool cancels the jobs of a lost client.
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            while tokio::signal::ctrl_c().await.is_ok() {
                if mark.swap(true, Ordering::AcqRel) {
                    std::process::exit(130);
                }
                for job in (first..).take(count as usize) {
                    // It fails only if the daemon has exited, and the jobs with it.
                    let _ = canceller.cancel(JobId(job));
                }
            }
        });
    });
    interrupted
}
