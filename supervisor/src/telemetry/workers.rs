//! The lines about workers' processes that the pool does not know of.

use std::fmt::Display;

use ipc_protocol::arithmetic::Dtype;
use ipc_protocol::ids::WorkerName;
use tracing::{error, info, warn};

/// What a worker computes in; a warning with the reason where its settings ask for another dtype.
pub fn computes(worker: &WorkerName, wished: Dtype, dtype: Dtype, reason: Option<&str>) {
    if wished == dtype {
        info!(%worker, %dtype, "Worker computes in {dtype}.");
    } else {
        let reason = reason.unwrap_or("it does not say why");
        warn!(%worker, %wished, %dtype, "Worker computes in {dtype} instead of {wished}: {reason}.");
    }
}

/// A line that a worker wrote.
pub fn wrote(worker: &str, line: &str) {
    info!(target: "worker", "{worker}: {line}");
}

/// A worker wrote more lines than are shown.
pub fn wrote_too_much(worker: &str, hidden: u64) {
    warn!(target: "worker", "{hidden} lines of {worker} not shown");
}

/// The newest lines of a worker that died.
pub fn last_lines(worker: &WorkerName, lines: &[String]) {
    warn!("Last words of {worker}: {}", lines.join(" | "));
}

/// A dead worker's descendant is killed.
pub fn left_behind(pid: i32) {
    warn!(pid, "Ending a process that a worker left behind");
}

/// The kernel does not tell how a worker ended.
pub fn not_waited(error: &dyn Display) {
    error!(%error, "Cannot wait for a worker");
}
