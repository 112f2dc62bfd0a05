//! Every metric: name, kind, labels, help. Units are base units; a model is always a key of the registry, and reasons
//! are words of enums, so the number of series is bounded. No metric holds anything of a request.

use ipc_protocol::ids::ModelKey;

use super::series::{Counter, Histogram, LiveValue, Metric};

/// Seconds of a phase of a job, and of a load.
const LONG: &[f64] = &[
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0,
];
/// Seconds of a step.
const SHORT: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0,
];
/// Joules of a picture.
const ENERGY: &[f64] = &[
    1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0,
];

/// The value of `reason` where there is none.
pub(in crate::telemetry) const NONE: &str = "none";
/// The value of `outcome` for a picture.
pub(in crate::telemetry) const FINISHED: &str = "finished";
/// The value of `result` for a loaded model.
pub(in crate::telemetry) const LOADED: &str = "loaded";
/// The value of `result` for a model that could not be loaded.
pub(in crate::telemetry) const NOT_LOADED: &str = "failed";

pub(in crate::telemetry) static JOBS: Counter<3> = Counter::new(
    "jobs_total",
    &["model", "outcome", "reason"],
    "Jobs that ended, by outcome (finished, failed, cancelled) and reason.",
);
pub(in crate::telemetry) static JOB_DURATION: Histogram<2> = Histogram::new(
    "job_duration_seconds",
    &["model", "phase"],
    LONG,
    "Time of finished jobs in each phase: queue, load, encode, denoise, decode.",
);
pub(in crate::telemetry) static JOB_ENERGY: Histogram<1> = Histogram::new(
    "job_energy_joules",
    &["model"],
    ENERGY,
    "Energy of a GPU for each finished job, shared among the jobs that ran there at the same time.",
);
pub(in crate::telemetry) static STEP_DURATION: Histogram<1> = Histogram::new(
    "step_duration_seconds",
    &["model"],
    SHORT,
    "Time of each denoising step, as its worker measured it.",
);
pub(in crate::telemetry) static RESUMED_STEPS: Counter<1> = Counter::new(
    "resumed_steps_total",
    &["model"],
    "Steps that did not have to be repeated when another worker continued a job.",
);
pub(in crate::telemetry) static ADMISSION_REJECTS: Counter<1> = Counter::new(
    "admission_rejects_total",
    &["reason"],
    "Requests that did not become jobs.",
);
pub(super) static QUEUE_DEPTH: LiveValue<1> = LiveValue::gauge(
    "queue_depth",
    &["model"],
    "Jobs that wait for a worker, a load, or the files of their model.",
);
pub(super) static QUEUE_OLDEST_AGE: LiveValue<0> = LiveValue::gauge(
    "queue_oldest_age_seconds",
    &[],
    "Time since the oldest waiting job was accepted; 0 if none waits.",
);
pub(super) static WORKERS: LiveValue<2> = LiveValue::gauge(
    "workers",
    &["model", "state"],
    "Worker processes that have not exited, by state as in imagepool status.",
);
pub(super) static WORKERS_BUSY: LiveValue<1> = LiveValue::gauge(
    "workers_busy",
    &["model"],
    "Worker processes that have a job.",
);
pub(in crate::telemetry) static WORKER_STARTS: Counter<2> = Counter::new(
    "worker_starts_total",
    &["model", "reason"],
    "Workers that were to be started, by reason.",
);
pub(in crate::telemetry) static WORKER_RESTARTS: Counter<1> = Counter::new(
    "worker_restarts_total",
    &["model"],
    "Workers that were to be started in place of one that died.",
);
pub(in crate::telemetry) static WORKER_EXITS: Counter<2> = Counter::new(
    "worker_exits_total",
    &["model", "reason"],
    "Worker processes that exited, by the reason to stop them, or by their exit code or signal.",
);
pub(in crate::telemetry) static MODEL_LOADS: Counter<2> = Counter::new(
    "model_loads_total",
    &["model", "result"],
    "Loads of a model that ended, by result: loaded, failed, abandoned.",
);
pub(in crate::telemetry) static MODEL_LOAD_DURATION: Histogram<1> = Histogram::new(
    "model_load_duration_seconds",
    &["model"],
    LONG,
    "Time from the start of a worker until its model is loaded.",
);
pub(in crate::telemetry) static EVICTIONS: Counter<2> = Counter::new(
    "evictions_total",
    &["model", "why"],
    "Idle workers of a model that were ended to make room for another_model or the same_model.",
);
pub(super) static MEMORY: LiveValue<2> = LiveValue::gauge(
    "memory_bytes",
    &["device", "kind"],
    "Memory of a device, by kind: limit, reserved, measured, foreign, settling.",
);
pub(super) static DEVICE_INFO: LiveValue<4> = LiveValue::gauge(
    "device_info",
    &["device", "name", "uuid", "driver"],
    "One for each GPU.",
);
pub(super) static DEVICE_STATE: LiveValue<2> = LiveValue::gauge(
    "device_state",
    &["device", "state"],
    "One for the present state of each GPU as in imagepool status, zero for the others.",
);
pub(super) static DEVICE_TEMPERATURE: LiveValue<1> = LiveValue::gauge(
    "device_temperature_celsius",
    &["device"],
    "Temperature of a GPU when it was last measured.",
);
pub(super) static DEVICE_POWER: LiveValue<1> = LiveValue::gauge(
    "device_power_watts",
    &["device"],
    "Power of a GPU when it was last measured.",
);
pub(super) static DEVICE_ERRORS: LiveValue<1> = LiveValue::counter(
    "device_uncorrected_errors_total",
    &["device"],
    "Errors of a GPU's memory since its driver was loaded that could not be corrected.",
);
pub(in crate::telemetry) static LOOP_STALLS: Counter<0> = Counter::new(
    "loop_stalls_total",
    &[],
    "Times that the daemon's loop did not run for a second or longer.",
);
pub(in crate::telemetry) static TRACE_SPANS: Counter<1> = Counter::new(
    "trace_spans_total",
    &["result"],
    "Spans of traces by result: sent, queue_full, not_taken, exporter_ended.",
);
pub(super) static UPTIME: LiveValue<0> =
    LiveValue::gauge("uptime_seconds", &[], "Time since the daemon started.");
pub(super) static BUILD_INFO: LiveValue<1> =
    LiveValue::gauge("build_info", &["version"], "One, with the version.");

/// All metrics, in the order in which they are shown.
pub static ALL: &[&dyn Metric] = &[
    &JOBS,
    &JOB_DURATION,
    &STEP_DURATION,
    &JOB_ENERGY,
    &RESUMED_STEPS,
    &ADMISSION_REJECTS,
    &QUEUE_DEPTH,
    &QUEUE_OLDEST_AGE,
    &WORKERS,
    &WORKERS_BUSY,
    &WORKER_STARTS,
    &WORKER_RESTARTS,
    &WORKER_EXITS,
    &MODEL_LOADS,
    &MODEL_LOAD_DURATION,
    &EVICTIONS,
    &MEMORY,
    &DEVICE_INFO,
    &DEVICE_STATE,
    &DEVICE_TEMPERATURE,
    &DEVICE_POWER,
    &DEVICE_ERRORS,
    &LOOP_STALLS,
    &TRACE_SPANS,
    &UPTIME,
    &BUILD_INFO,
];

/// Shows the usual series of a model from the beginning: a rate needs their zero.
pub(super) fn expect_of(model: &ModelKey) {
    let model = model.as_str();
    JOBS.add([model, FINISHED, NONE], 0);
    RESUMED_STEPS.add([model], 0);
    WORKER_RESTARTS.add([model], 0);
    MODEL_LOADS.add([model, LOADED], 0);
    MODEL_LOADS.add([model, NOT_LOADED], 0);
    LOOP_STALLS.add([], 0);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::description::MetricKind;
    use super::*;

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        let mut seen = BTreeSet::new();
        for metric in ALL {
            let metric = metric.describe();
            let name = metric.name;
            assert!(seen.insert(name), "{name} is defined twice");
            let plain = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(name.chars().all(plain), "{name}");
            let is_total = name.ends_with("_total");
            assert_eq!(is_total, metric.kind == MetricKind::Counter, "{name}");
            assert!(metric.help.ends_with('.') && !metric.help.contains(['\n', '\\']));
            for label in metric.labels {
                let reserved = ["le", "quantile", "job", "instance"];
                assert!(!reserved.contains(label), "{name}: {label}");
                assert!(label.chars().all(plain), "{name}: {label}");
            }
        }
    }
}
