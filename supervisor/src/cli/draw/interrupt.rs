//! Ctrl-C: cancels the jobs of a request, or leaves a job alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ipc_protocol::client::Canceller;

/// Cancels the jobs on the first Ctrl-C, so that their answers end the command; exits on the second. The
/// returned flag is true after the first.
pub fn cancels(canceller: Canceller) -> Arc<AtomicBool> {
    // It fails only if the daemon has exited, and the jobs with it.
    on_interrupt(move || drop(canceller.cancel_all()))
}

/// Ends the connection on the first Ctrl-C, so that the command ends and the job continues; exits on the second. The
/// returned flag is true after the first.
pub fn leaves(canceller: Canceller) -> Arc<AtomicBool> {
    // It fails only if the daemon has ended the connection.
    on_interrupt(move || drop(canceller.disconnect()))
}

/// Runs `first` on the first Ctrl-C; exits on the second.
fn on_interrupt(first: impl Fn() + Send + 'static) -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let mark = Arc::clone(&interrupted);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        // Without a runtime Ctrl-C kills this process, and the daemon notices that its client is gone.
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            while tokio::signal::ctrl_c().await.is_ok() {
                if mark.swap(true, Ordering::AcqRel) {
                    std::process::exit(130);
                }
                first();
            }
        });
    });
    interrupted
}
