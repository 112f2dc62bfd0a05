//! Runs the hooks of `[truce]` beside the loop.
//!
//! They ask other programs for the memory of a GPU, and report to them that it is theirs again.

use std::time::Duration;

use ipc_protocol::ids::Device;
use pool::Event;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::Driver;
use super::inbox::LoopCommand;
use crate::config::truce::Hook;
use crate::process::hook;
use crate::telemetry;

/// How long the hooks of the last workers may take when the daemon ends.
const GOODBYE: Duration = Duration::from_secs(5);

/// The running hooks that report to other programs that a device is theirs again.
#[derive(Debug, Default)]
pub(super) struct EndedTruces(Vec<JoinHandle<()>>);

impl EndedTruces {
    /// Waits for the hooks that still run.
    pub async fn finish(&mut self) {
        let _ = timeout(GOODBYE, async {
            for hook in self.0.drain(..) {
                let _ = hook.await; // Nothing in it panics; its failures are logged.
            }
        })
        .await;
    }
}

impl Driver {
    /// Runs the hooks that ask for a device, and reports their end to the pool.
    pub(super) fn ask_truce(&mut self, device: Device) {
        let truce = &self.library.config.truce;
        let (hooks, patience) = (truce.before_load.clone(), truce.patience);
        let outbox = self.handle.outbox.clone();
        tokio::spawn(async move {
            let ran = spawn_blocking(move || run_all(&hooks, device, patience));
            let _ = ran.await; // Nothing in it panics.
            // Fails only if the loop has ended.
            let _ = outbox.command(LoopCommand::TruceAnswered(device)).await;
        });
    }

    /// Runs the hooks that report a device without workers.
    pub(super) fn end_truce(&mut self, device: Device) {
        let truce = &self.library.config.truce;
        let (hooks, patience) = (truce.after_last.clone(), truce.patience);
        self.ended_truces.0.retain(|hook| !hook.is_finished());
        let hooks = spawn_blocking(move || run_all(&hooks, device, patience));
        self.ended_truces.0.push(hooks);
    }

    /// The hooks have ended: what was measured before them counts no more.
    pub(super) fn truce_answered(&mut self, device: Device) {
        if let Some(aged) = self.gpus.outdate(device, self.clock.now()) {
            self.happen(aged);
        }
        self.happen(Event::TruceAnswered { device });
    }
}

/// Runs hooks one after the other. One that fails is logged, and the next runs.
fn run_all(hooks: &[Hook], device: Device, patience: Duration) {
    for hook in hooks {
        match hook::run(hook, device, patience) {
            Ok(()) => telemetry::hooks::ran(hook, device),
            Err(why) => telemetry::hooks::failed(hook, device, &why),
        }
    }
}
