//! The settings of the pool, with their defaults.

use std::time::Duration;

use crate::words::quota::Quotas;

/// Settings of the pool. The supervisor fills them from TOML, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Key or alias of the model for requests that name none.
    pub default_model: String,
    /// Workers started at once for a model that has none.
    pub cold_start_workers: u32,
    /// Most workers of one model, unless its own setting says otherwise.
    pub max_workers_per_model: u32,
    /// Workers that may start and load at the same time; beyond half of them, only for jobs that wait.
    pub max_starting_workers: u32,
    /// Workers kept for each model, unless its own setting says otherwise.
    pub min_workers: u32,
    /// How long a job waits for busy workers before its model gets one more.
    pub grow_after: Duration,
    /// While all workers of a model are idle, one exits per interval.
    pub idle: Duration,
    /// Jobs that may wait for one model.
    pub queue_per_model: usize,
    /// Jobs that may wait in all.
    pub queue_total: usize,
    /// Bytes of text that may wait in all.
    pub queue_bytes: usize,
    /// How long accepted jobs may take once the pool shuts down.
    pub drain: Duration,
    /// Workers that a request may kill at the same step before it is quarantined. Workers killed from outside do not
    /// count.
    pub max_attempts: u32,
    /// How long a request that killed its workers is refused.
    pub quarantine: Duration,
    /// Later jobs of loaded models that may start before a job that needs their memory.
    pub max_overtakes: u32,
    /// How long a job that needs the memory of other models may be overtaken.
    pub max_overtake: Duration,
    /// Jobs start in order of arrival: no overtaking, no classes, no shares.
    pub fifo: bool,
    /// Longest prompt.
    pub prompt_bytes: usize,
    /// Largest picture, whatever the model allows.
    pub max_pixels: u64,
    /// Added to the measured need of a model, in percent.
    pub margin_percent: u64,
    /// Failures in a row that open a model's breaker.
    pub breaker_failures: u32,
    /// How long it stays open.
    pub breaker_open: Duration,
    /// Successes in a row that close it again.
    pub breaker_probes: u32,
    /// The terms on which other programs are asked for the memory of accelerators, if they are.
    pub truce: Option<TruceTerms>,
    /// The quotas of users.
    pub quotas: Quotas,
    /// How long to wait for events that may never come.
    pub patience: Patience,
}

/// The times of an agreement with other programs about an accelerator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TruceTerms {
    /// How long they may take to answer.
    pub answer: Duration,
    /// How long an agreement lasts if no worker starts.
    pub hold: Duration,
}

/// How long to wait for events that may never come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Patience {
    /// From the start of a process to its hello, whatever it does.
    pub hello: Duration,
    /// Most processor time from the start of a process to its hello.
    pub busy_hello: Duration,
    /// Between two signs of life.
    pub heartbeat: Duration,
    /// Most processor time between two parts of a load.
    pub load: Duration,
    /// How long the load of a worker with a GPU may not want the processor: the driver may wait for the device.
    pub still_load: Duration,
    /// Most processor time from `Run` to the first step, and for every step while none was measured.
    pub first_step: Duration,
    /// The part of `load` and `first_step` that a small model gets; `cold_per_mb` is added for each MiB it holds.
    pub cold: Duration,
    /// See `cold`. Counted as often as a picture has the pixels of a usual one.
    pub cold_per_mb: Duration,
    /// How long a worker may not want the processor before its hello, and on the CPU while it loads and while no step was
    /// measured.
    pub still: Duration,
    /// Shortest limit between two steps; ten usual steps if that is more.
    pub step: Duration,
    /// How long a small model may do without a step or a further part of its load although it counts work, while no step
    /// was measured; `believed_per_mb` is added for each MiB it holds.
    pub believed: Duration,
    /// See `believed`. Counted as often as a picture has the pixels of a usual one.
    pub believed_per_mb: Duration,
    /// The same once steps were measured; a hundred usual steps if that is more.
    pub believed_known: Duration,
    /// The same if it gets less of the processor or the disk than it wants, while no step was measured.
    pub longest: Duration,
    /// The same once steps were measured; a hundred usual steps if that is more.
    pub longest_known: Duration,
    /// From asking to SIGTERM.
    pub ask: Duration,
    /// From SIGTERM to SIGKILL.
    pub terminate: Duration,
    /// Between two SIGKILLs.
    pub kill: Duration,
    /// From a reaped exit to the device driver's confirmation.
    pub settle: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            hello: Duration::from_secs(60),
            busy_hello: Duration::from_secs(10),
            heartbeat: Duration::from_secs(5),
            load: Duration::from_secs(300),
            still_load: Duration::from_secs(30),
            first_step: Duration::from_secs(120),
            cold: Duration::from_secs(8),
            cold_per_mb: Duration::from_millis(50),
            still: Duration::from_secs(5),
            step: Duration::from_secs(5),
            believed: Duration::from_secs(60),
            believed_per_mb: Duration::from_secs(1),
            believed_known: Duration::from_secs(60),
            longest: Duration::from_secs(3600),
            longest_known: Duration::from_secs(600),
            ask: Duration::from_secs(1),
            terminate: Duration::from_secs(2),
            kill: Duration::from_secs(5),
            settle: Duration::from_secs(5),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default_model: ipc_protocol::family::EMBEDDED_MODEL.into(),
            cold_start_workers: 2,
            max_workers_per_model: 4,
            max_starting_workers: 16,
            min_workers: 0,
            grow_after: Duration::from_secs(2),
            idle: Duration::from_secs(60),
            queue_per_model: 20,
            queue_total: 1000,
            queue_bytes: 16 << 20,
            drain: Duration::from_secs(5),
            max_attempts: 2,
            quarantine: Duration::from_secs(600),
            max_overtakes: 8,
            max_overtake: Duration::from_secs(30),
            fifo: false,
            prompt_bytes: 16384,
            max_pixels: 2048 * 2048,
            margin_percent: 10,
            breaker_failures: 5,
            breaker_open: Duration::from_secs(60),
            breaker_probes: 3,
            truce: None,
            quotas: Quotas::default(),
            patience: Patience::default(),
        }
    }
}
