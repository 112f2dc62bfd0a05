//! Log lines about workers, with the metrics that move beside them.

use std::fmt::Display;
use std::time::Duration;

use ipc_protocol::arithmetic::Dtype;
use ipc_protocol::ids::{Generation, ModelKey, WorkerName};
use ipc_protocol::sandbox::SandboxReached;
use ipc_protocol::units::{Mebibytes, counted};
use pool::{EndClass, Exit, Start, StopReason};
use tracing::{debug, error, info, warn};

use super::metrics::names::{
    EVICTIONS, LOADED, MODEL_LOAD_DURATION, MODEL_LOADS, NOT_LOADED, WORKER_EXITS, WORKER_RESTARTS,
    WORKER_STARTS,
};
use super::ms;

/// The result of a load that was ended because nothing needs it any more.
const ABANDONED: &str = "abandoned";

/// A worker is to be started.
#[derive(Debug)]
pub struct WorkerOrdered<'a>(pub &'a Start);

impl WorkerOrdered<'_> {
    pub fn tell(&self) {
        let Start {
            worker,
            name,
            model,
            device,
            reason,
            replaces,
            ..
        } = self.0;
        let reason = reason.word();
        debug!(worker = %name, generation = worker.0, %device, %reason, replaces, "Starting a worker");
        WORKER_STARTS.add([model.as_str(), reason], 1);
        WORKER_RESTARTS.add([model.as_str()], u64::from(*replaces));
    }
}

/// A worker has confined itself otherwise than the ones before, or is the first.
pub fn confined(sandbox: SandboxReached) {
    match sandbox.is_full() {
        true => info!(%sandbox, "Workers confine themselves"),
        false => warn!(%sandbox, "Workers are not fully confined"),
    }
}

/// A worker's process could not be made.
#[derive(Debug)]
pub struct WorkerNotStarted<'a> {
    pub name: &'a WorkerName,
    pub message: &'a str,
}

impl WorkerNotStarted<'_> {
    pub fn tell(&self) {
        let Self { name, message } = self;
        error!(worker = %name, error = %message, "Cannot start a worker");
        MODEL_LOADS.add([name.model.as_str(), NOT_LOADED], 1);
    }
}

/// A worker has loaded its model, `load` after its start.
#[derive(Debug)]
pub struct WorkerReady<'a> {
    pub worker: Generation,
    pub name: &'a WorkerName,
    pub load: Duration,
}

impl WorkerReady<'_> {
    pub fn tell(&self) {
        let Self { worker, name, load } = self;
        info!(worker = %name, generation = worker.0, load_ms = ms(*load), "Worker ready");
        let model = name.model.as_str();
        MODEL_LOADS.add([model, LOADED], 1);
        MODEL_LOAD_DURATION.time([model], *load);
    }
}

/// A worker that the pool wanted to exit has exited.
#[derive(Debug)]
pub struct WorkerLeft<'a> {
    pub worker: Generation,
    pub name: &'a WorkerName,
    pub why: StopReason,
    /// It had not finished loading.
    pub loading: bool,
}

impl WorkerLeft<'_> {
    pub fn tell(&self) {
        let Self {
            worker, name, why, ..
        } = self;
        let reason = EndClass::Stopped(*why).word();
        info!(worker = %name, generation = worker.0, %reason, "Worker exited");
        let model = name.model.as_str();
        WORKER_EXITS.add([model, reason], 1);
        if self.loading {
            MODEL_LOADS.add([model, ABANDONED], 1);
        }
    }
}

/// A worker exited by itself, by a foreign signal, or was stopped for its own fault.
#[derive(Debug)]
pub struct WorkerDied<'a> {
    pub worker: Generation,
    pub name: &'a WorkerName,
    pub exit: Exit,
    /// The fault for which it was stopped, if it was.
    pub why: Option<StopReason>,
    /// It had not finished loading.
    pub loading: bool,
    /// Its activity.
    pub doing: &'a str,
    /// Deaths of the model in a row.
    pub in_a_row: u32,
    /// Time until another may start.
    pub backoff: Duration,
}

impl WorkerDied<'_> {
    pub fn tell(&self) {
        let Self {
            worker,
            name,
            exit,
            doing,
            in_a_row,
            backoff,
            ..
        } = self;
        let reason = EndClass::of(*exit, self.why).word();
        warn!(
            worker = %name, generation = worker.0, %reason, exit = %how(*exit), %doing, in_a_row,
            backoff_ms = ms(*backoff), "Worker died"
        );
        let model = name.model.as_str();
        WORKER_EXITS.add([model, reason], 1);
        if self.loading {
            MODEL_LOADS.add([model, NOT_LOADED], 1);
        }
    }
}

/// An idle worker is evicted so that `for_model` gets its memory.
#[derive(Debug)]
pub struct WorkerEvicted<'a> {
    pub name: &'a WorkerName,
    pub for_model: &'a ModelKey,
    pub freed: Mebibytes,
}

impl WorkerEvicted<'_> {
    pub fn tell(&self) {
        let Self {
            name,
            for_model,
            freed,
        } = self;
        info!(worker = %name, %for_model, freed_mb = freed.0, "Evicted an idle worker");
        let why = match name.model == **for_model {
            true => "same_model",
            false => "another_model",
        };
        EVICTIONS.add([name.model.as_str(), why], 1);
    }
}

/// Describes the end of a process.
pub fn how(exit: Exit) -> String {
    let meaning = EndClass::of(exit, None).meaning();
    match exit {
        Exit::Code(code) => format!("code {code} ({meaning})"),
        Exit::Signal { signal, .. } => format!("signal {signal} ({meaning})"),
    }
}

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
    let hidden = counted(hidden, "line");
    warn!(target: "worker", "{hidden} of {worker} not shown");
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

/// A worker has no control group of its own: the kernel refuses.
pub fn without_group(pid: u32, error: &dyn Display) {
    warn!(pid, %error, "Worker has no control group of its own");
}

/// The memory of a worker without a control group cannot be limited: the kernel refuses.
pub fn without_limit(pid: u32, error: &dyn Display) {
    warn!(pid, %error, "Cannot limit the memory of a worker");
}

/// The limits of a worker's control group cannot be raised, or the group cannot be removed.
pub fn group_failed(folder: &dyn Display, error: &dyn Display) {
    warn!(%folder, %error, "Cannot change the control group of a worker");
}
