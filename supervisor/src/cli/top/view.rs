//! A report as lines: the daemon, memory, workers, and the queue.

use ipc_protocol::status::{DeviceStatus, MemoryStatus, QueuedStatus, StatusReport, WorkerStatus};

use super::columns::{self, Cell, Column};
use crate::cli::colour::Tone;
use crate::cli::operate::duration::uptime;
use crate::cli::operate::status::tone;
use crate::cli::text::TonedLine;

/// Widths of the bars.
const MEMORY_BAR: usize = 20;
const STEP_BAR: usize = 10;
/// Columns of a reason for which other columns are left out.
const REASON_LEAST: usize = 30;
/// Width of the names of devices.
const DEVICE_WIDTH: usize = 7;

/// The order of the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerOrder {
    Name,
    Memory,
    Uptime,
    Jobs,
}

impl WorkerOrder {
    /// The order that follows when the key is pressed.
    pub fn next(self) -> Self {
        match self {
            Self::Name => Self::Memory,
            Self::Memory => Self::Uptime,
            Self::Uptime => Self::Jobs,
            Self::Jobs => Self::Name,
        }
    }

    /// The name of the order.
    pub fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Memory => "memory",
            Self::Uptime => "uptime",
            Self::Jobs => "jobs done",
        }
    }

    /// Sorts by it, the largest first; names from A.
    fn sort(self, workers: &mut [&WorkerStatus]) {
        match self {
            Self::Name => workers.sort_by(|a, b| a.name.cmp(&b.name)),
            Self::Memory => workers.sort_by_key(|worker| std::cmp::Reverse(held_mb(worker))),
            Self::Uptime => workers.sort_by(|a, b| b.uptime_s.total_cmp(&a.uptime_s)),
            Self::Jobs => workers.sort_by_key(|worker| std::cmp::Reverse(worker.jobs_done)),
        }
    }
}

const WORKERS: [Column; 9] = [
    columns::text("WORKER", 0),
    columns::text("STATE", 0),
    columns::text("DEVICE", 0),
    columns::number("PID", 4),
    columns::number("UPTIME", 3),
    columns::number("MEASURED", 1),
    columns::number("RESERVED", 0),
    columns::number("DONE", 2),
    columns::text("JOB AND STEP", 0),
];

const JOBS: [Column; 6] = [
    columns::number("JOB", 0),
    columns::text("MODEL", 0),
    columns::text("STATE", 0),
    columns::number("PLACE", 1),
    columns::number("WAITED", 0),
    columns::text("REASON", 0),
];

/// All lines of a report, cut to `width`.
pub fn lines(report: &StatusReport, order: WorkerOrder, width: Option<usize>) -> Vec<TonedLine> {
    let fit = |line: TonedLine| match width {
        Some(width) => line.cut(width),
        None => line,
    };
    let mut lines = vec![fit(daemon(report))];
    for book in &report.memory {
        let gpu = report.devices.iter().find(|gpu| gpu.device == book.device);
        lines.push(fit(memory(book, gpu)));
    }
    lines.push(TonedLine::default());
    let mut workers: Vec<&WorkerStatus> = report.workers.iter().collect();
    order.sort(&mut workers);
    match workers.as_slice() {
        [] => lines.push(fit(TonedLine::of(
            Tone::Faint,
            "No workers: a request starts them.",
        ))),
        workers => {
            let rows: Vec<_> = workers.iter().map(|worker| worker_row(worker)).collect();
            lines.extend(columns::lay_out(&WORKERS, &rows, width, usize::MAX));
        }
    }
    lines.push(TonedLine::default());
    match report.queue.as_slice() {
        [] => lines.push(fit(TonedLine::of(Tone::Faint, "No jobs."))),
        jobs => {
            let rows: Vec<_> = jobs.iter().map(job_row).collect();
            lines.extend(columns::lay_out(&JOBS, &rows, width, REASON_LEAST));
        }
    }
    lines
}

fn daemon(report: &StatusReport) -> TonedLine {
    let supervisor = &report.supervisor;
    let tone = match supervisor.draining_s {
        None => Tone::Good,
        Some(_) => Tone::Warning,
    };
    let busy = report
        .workers
        .iter()
        .filter(|worker| worker.job.is_some())
        .count();
    let counts = format!(
        ", workers {} ({busy} busy), jobs {}, spawns {}, evictions {}",
        report.workers.len(),
        report.queue.len(),
        report.counters.spawns,
        report.counters.evictions
    );
    TonedLine::of(Tone::Heading, "imagepool ")
        .and(tone, &supervisor.state)
        .and(Tone::Plain, format!(", up {}", uptime(supervisor.uptime_s)))
        .and(Tone::Plain, counts)
}

/// The book of a device: what is promised of its limit, and what is measured.
fn memory(book: &MemoryStatus, gpu: Option<&DeviceStatus>) -> TonedLine {
    let share = match book.limit_mb {
        0 => 0.0,
        limit => book.reserved_mb as f64 / limit as f64,
    };
    let tone = match share {
        share if share > 0.95 => Tone::Bad,
        share if share > 0.8 => Tone::Warning,
        _ => Tone::Good,
    };
    let mut parts = vec![format!(
        " {} of {} reserved",
        sized(book.reserved_mb),
        sized(book.limit_mb)
    )];
    let known = [
        ("measured", book.measured_mb),
        ("of others", book.foreign_mb),
    ];
    let settling = ("settling", Some(book.settling_mb).filter(|mb| *mb > 0));
    for (what, mb) in known.into_iter().chain([settling]) {
        parts.extend(mb.map(|mb| format!("{} {what}", sized(mb))));
    }
    if let Some(gpu) = gpu {
        parts.extend(gpu.temperature_c.map(|celsius| format!("{celsius} °C")));
        parts.extend(gpu.power_w.map(|watts| format!("{watts:.0} W")));
        parts.push(gpu.name.clone());
    }
    TonedLine::of(Tone::Heading, &book.device)
        .pad(DEVICE_WIDTH)
        .and(tone, bar(share, MEMORY_BAR))
        .and(Tone::Plain, parts.join(", "))
}

fn worker_row(worker: &WorkerStatus) -> Vec<Cell> {
    let plain = |text: String| (Tone::Plain, text);
    let tone = tone(worker.state);
    let progress = match (&worker.job, worker.load_progress) {
        (Some(job), _) => {
            let share = f64::from(job.step) / f64::from(job.steps.max(1));
            let bar = bar(share, STEP_BAR);
            (
                Tone::Good,
                format!("{} {bar} {}/{}", job.id, job.step, job.steps),
            )
        }
        (None, Some(loaded)) => {
            let bar = bar(f64::from(loaded), STEP_BAR);
            (
                Tone::Warning,
                format!("loading {bar} {:.0} %", loaded * 100.0),
            )
        }
        (None, None) => plain(String::new()),
    };
    vec![
        plain(worker.name.clone()),
        (tone, worker.state.word().to_owned()),
        plain(worker.device.clone()),
        plain(worker.pid.map(|pid| pid.to_string()).unwrap_or_default()),
        plain(uptime(worker.uptime_s)),
        plain(worker.measured_mb.map(sized).unwrap_or_default()),
        plain(sized(worker.reserved_mb.values().sum())),
        plain(worker.jobs_done.to_string()),
        progress,
    ]
}

fn job_row(job: &QueuedStatus) -> Vec<Cell> {
    let plain = |text: String| (Tone::Plain, text);
    let tone = match job.state.as_str() {
        "running" => Tone::Good,
        _ => Tone::Warning,
    };
    let place = match job.position {
        0 => String::new(),
        place => place.to_string(),
    };
    vec![
        plain(job.job.to_string()),
        plain(job.model.to_string()),
        (tone, job.state.clone()),
        plain(place),
        plain(format!("{:.1} s", job.waiting_s)),
        plain(job.reason.clone()),
    ]
}

/// The measured memory; the reserved one until it is measured.
fn held_mb(worker: &WorkerStatus) -> u64 {
    let reserved = || worker.reserved_mb.values().sum();
    worker.measured_mb.unwrap_or_else(reserved)
}

fn gib(mb: u64) -> String {
    format!("{:.1}", mb as f64 / 1024.0)
}

fn sized(mb: u64) -> String {
    match mb {
        0..1024 => format!("{mb} MiB"),
        mb => format!("{} GiB", gib(mb)),
    }
}

/// A bar of a share from 0 to 1, with brackets.
fn bar(share: f64, width: usize) -> String {
    let full = (share.clamp(0.0, 1.0) * width as f64).round() as usize;
    let (full, rest) = ("=".repeat(full), " ".repeat(width - full));
    format!("[{full}{rest}]")
}

#[cfg(test)]
mod tests {
    use ipc_protocol::ids::{Generation, JobId, ModelKey};
    use ipc_protocol::status::{Counters, RunningStatus, SupervisorStatus, WorkerState};

    use super::*;

    fn worker(slot: u64, job: Option<RunningStatus>) -> WorkerStatus {
        let model = ModelKey::new("flux-schnell").expect("a plain key");
        WorkerStatus {
            name: format!("{model}:{slot}"),
            model,
            state: WorkerState::Running,
            pid: Some(4711),
            device: "cuda:0".into(),
            generation: Generation(slot + 1),
            reserved_mb: [("cuda:0".to_owned(), 34 * 1024 + slot)].into(),
            measured_mb: Some(33 * 1024 + slot),
            job,
            jobs_done: 12 - slot,
            restarts: 0,
            since_s: 1.0,
            uptime_s: 192.0 + slot as f64,
            load_progress: None,
            sandbox: None,
        }
    }

    fn report() -> StatusReport {
        let job = RunningStatus {
            id: JobId(17),
            step: 3,
            steps: 4,
        };
        let queued = QueuedStatus {
            job: JobId(18),
            model: ModelKey::new("flux-schnell").expect("a plain key"),
            state: "waiting".into(),
            position: 1,
            waiting_s: 2.14,
            reason: "position 1: 2 of 2 workers are busy and no other fits beside them on cuda:0, which has 45.0 GiB free".into(),
        };
        StatusReport {
            supervisor: SupervisorStatus {
                pid: 1,
                version: "0".into(),
                state: "serving".into(),
                uptime_s: 3600.0,
                draining_s: None,
                yielding_s: None,
                journal: "none".into(),
                journal_detail: String::new(),
                control_groups: "none".into(),
                control_groups_detail: String::new(),
                state_dir: None,
            },
            memory: vec![MemoryStatus {
                device: "cuda:0".into(),
                limit_mb: 80 * 1024,
                reserved_mb: 68 * 1024,
                measured_mb: Some(66 * 1024),
                foreign_mb: Some(512),
                settling_mb: 0,
            }],
            workers: vec![worker(0, Some(job)), worker(1, None)],
            models: Vec::new(),
            queue: vec![queued],
            counters: Counters::default(),
            devices: Vec::new(),
        }
    }

    fn text(width: Option<usize>) -> Vec<String> {
        let lines = lines(&report(), WorkerOrder::Name, width);
        lines.iter().map(|line| line.print(false)).collect()
    }

    #[test]
    fn nothing_is_wider_than_the_terminal_and_the_essentials_stay() {
        for width in [40, 60, 80, 120, 200] {
            for line in text(Some(width)) {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
        let narrow = text(Some(80)).join("\n");
        for part in [
            "flux-schnell:0",
            "RUNNING",
            "cuda:0",
            "17 [========  ] 3/4",
            "34.0 GiB",
            "waiting",
            "position 1: 2",
        ] {
            assert!(narrow.contains(part), "{part}: {narrow}");
        }
        let wide = text(Some(200)).join("\n");
        for part in [
            "4711",
            "0:03:12",
            "33.0 GiB",
            "45.0 GiB free",
            "68.0 GiB of 80.0 GiB reserved",
        ] {
            assert!(wide.contains(part), "{part}: {wide}");
        }
    }

    #[test]
    fn each_order_puts_another_worker_first() {
        let first = |order| {
            let report = report();
            let mut workers: Vec<_> = report.workers.iter().collect();
            let order: WorkerOrder = order;
            order.sort(&mut workers);
            workers[0].name.clone()
        };
        assert_eq!(first(WorkerOrder::Name), "flux-schnell:0");
        assert_eq!(first(WorkerOrder::Memory), "flux-schnell:1");
        assert_eq!(first(WorkerOrder::Uptime), "flux-schnell:1");
        assert_eq!(first(WorkerOrder::Jobs), "flux-schnell:0");
        let mut order = WorkerOrder::Name;
        for _ in 0..4 {
            order = order.next();
        }
        assert_eq!(order, WorkerOrder::Name, "the key leads around");
    }

    #[test]
    fn a_pool_without_work_says_so() {
        let report = StatusReport {
            workers: Vec::new(),
            queue: Vec::new(),
            ..report()
        };
        let lines = lines(&report, WorkerOrder::Name, None);
        let text: Vec<_> = lines.iter().map(|line| line.print(false)).collect();
        assert!(text.contains(&"No jobs.".to_owned()), "{text:?}");
        assert_eq!(bar(2.0, 4), "[====]");
        assert_eq!(bar(f64::NAN, 4), "[    ]");
    }
}
