//! Log lines about worker processes that are not notices of the pool.

use std::fmt::Display;

use ipc_protocol::arithmetic::Dtype;
use ipc_protocol::ids::WorkerName;
use tracing::{error, info, warn};

/// The data type that a worker computes in; a warning with the reason if the settings name another.
pub fn computes(worker: &WorkerName, wished: Dtype, dtype: Dtype, reason: Option<&str>) {
    if wished == dtype || wished == Dtype::Auto {
        info!(%worker, %dtype, "Worker computes in {dtype}");
    } else {
        let reason = reason.unwrap_or("unknown reason");
        warn!(%worker, %wished, %dtype, "Worker computes in {dtype} instead of {wished}: {reason}");
    }
}

/// A line from a worker's stderr.
pub fn wrote(worker: &str, line: &str) {
    info!(target: "worker", "{worker}: {line}");
}

/// Lines of a worker were left out of the log because there were too many.
pub fn wrote_too_much(worker: &str, hidden: u64) {
    warn!(target: "worker", "{hidden} lines of {worker} not shown");
}

/// The newest lines of a worker that died.
pub fn last_lines(worker: &WorkerName, lines: &[String]) {
    warn!("Last words of {worker}: {}", lines.join(" | "));
}

/// A child process left by a dead worker is killed.
pub fn left_behind(pid: i32) {
    warn!(pid, "Killing a process that a dead worker left");
}

/// The kernel does not report how a worker ended.
pub fn not_waited(error: &dyn Display) {
    error!(%error, "Cannot wait for a worker");
}
