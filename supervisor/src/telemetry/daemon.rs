//! Log lines about the daemon itself: its start, its loop, its record, the machine.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use ipc_protocol::ids::Device;
use ipc_protocol::units::Mebibytes;
use tracing::{debug, error, info, warn};

use super::metrics::names::{LOOP_STALLS, TRACE_SPANS};
use super::ms;

/// The daemon accepts clients.
pub fn serving(socket: &Path) {
    info!(socket = %socket.display(), "Serving.");
}

/// Files that killed daemons had left were removed.
pub fn swept(segments: usize, folders: usize) {
    info!(
        segments,
        folders, "Removed segments and folders that killed daemons left"
    );
}

/// No signal handlers: any signal will kill the process at once.
pub fn no_signals() {
    error!("Cannot listen for signals");
}

/// The service manager did not get a message.
pub fn not_notified(error: &dyn Display) {
    warn!(%error, "Cannot send a message to the service manager");
}

/// The folder of a private pool could not be removed.
pub fn folder_stays(error: &dyn Display) {
    warn!(%error, "Cannot remove the runtime folder");
}

/// The loop did not run for this long.
pub fn stalled(lasted: Duration) {
    warn!(lasted_ms = ms(lasted), "Loop did not run");
    LOOP_STALLS.add([], 1);
}

/// The loop hangs in one activity for this long; the daemon aborts.
pub fn hangs(activity: &str, lasted: Duration, thread: &str) {
    error!(
        activity,
        lasted_ms = ms(lasted),
        thread,
        "Loop hangs, so the daemon aborts"
    );
}

/// New settings apply.
pub fn reloaded(place: &str, models: usize, restart: &[&str]) {
    let restart = restart.join(", ");
    info!(place, models, restart, "Settings reloaded");
}

/// The settings file is invalid, so the settings stay as they are.
pub fn not_reloaded(error: &dyn Display) {
    error!(%error, "Settings not reloaded");
}

/// No further events are recorded.
pub fn record_ended(error: &dyn Display) {
    error!(%error, "Record ended");
}

/// The machine's memory is unknown, so no worker can reserve any.
pub fn memory_unknown(error: &dyn Display) {
    warn!(%error, "Cannot read the machine's memory");
}

/// A GPU was found, and its memory is in the budget.
pub fn gpu(
    device: Device,
    name: &str,
    uuid: &str,
    driver: &str,
    (total, limit): (Mebibytes, Mebibytes),
) {
    info!(
        %device, uuid, driver, total_mb = total.0, limit_mb = limit.0, "GPU found: {name}"
    );
}

/// There is no GPU, as on most machines.
pub fn no_gpu(reason: &dyn Display) {
    debug!(%reason, "No GPU");
}

/// There are GPUs, and no worker program for them.
pub fn gpus_unused(reason: &dyn Display) {
    warn!(%reason, "GPUs are not used");
}

/// The settings name a library for the GPU driver and it gives no GPU, or the driver does not answer.
pub fn gpus_unanswered(reason: &dyn Display) {
    warn!(%reason, "GPU driver does not answer");
}

/// The program that sends spans cannot be started, or ended.
pub fn no_exporter(error: &dyn Display) {
    warn!(%error, "Program that sends traces is not there: starting it again later");
}

/// The collector took spans.
#[derive(Debug)]
pub struct SpansSent {
    pub count: u64,
}

impl SpansSent {
    pub fn tell(&self) {
        debug!(spans = self.count, "Spans sent");
        TRACE_SPANS.add(["sent"], self.count);
    }
}

/// Spans were dropped.
#[derive(Debug)]
pub struct SpansDropped {
    pub count: u64,
    pub reason: SpanLoss,
}

/// Why spans were dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanLoss {
    /// Too many waited.
    QueueFull,
    /// The collector did not take them.
    NotTaken,
    /// The program that sends them ended.
    ExporterEnded,
}

impl SpanLoss {
    fn word(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::NotTaken => "not_taken",
            Self::ExporterEnded => "exporter_ended",
        }
    }
}

impl SpansDropped {
    /// `error` is the message of the program that sends them, or of the collector.
    pub fn tell(&self, error: Option<&str>) {
        let reason = self.reason.word();
        warn!(spans = self.count, %reason, error, "Spans dropped");
        TRACE_SPANS.add([reason], self.count);
    }
}

/// The state folder cannot be used: obituaries and detached jobs are lost with the daemon.
pub fn no_state_dir(error: &dyn Display) {
    warn!(%error, "State folder cannot be used: obituaries are kept in memory only");
}

/// A file in the folder of the obituaries is damaged or not one of them.
pub fn obituary_skipped(file: &Path, error: &dyn Display) {
    let file = file.display();
    warn!(%file, %error, "Skipping a file that is not an obituary");
}

/// An obituary is not on the disk.
pub fn obituary_not_written(error: &dyn Display) {
    warn!(%error, "Cannot write an obituary");
}

/// Each worker gets a control group of its own in this folder.
pub fn worker_groups(version: &str, folder: &dyn Display) {
    info!(%folder, "Each worker has a control group of its own ({version})");
}

/// Workers have no control groups of their own; that is a warning if the settings want them.
pub fn no_worker_groups(reason: &str, wanted: bool) {
    match wanted {
        true => warn!(%reason, "Workers have no control groups of their own"),
        false => info!(%reason, "Workers have no control groups of their own"),
    }
}
