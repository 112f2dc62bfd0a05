//! `imagepool status` and `pid`: one line per worker, in supervisorctl's form.

use ipc_protocol::ids::ModelKey;
use ipc_protocol::status::{
    DeviceStatus, MemoryStatus, ModelStatus, StatusReport, WorkerState, WorkerStatus,
};
use ipc_protocol::units::Mebibytes;

use super::names::TargetName;
use crate::cli::args::ConnectOptions;
use crate::cli::daemon::connect;
use crate::cli::{CommandError, say};

/// Exit code: a named or pinned worker or model is not RUNNING.
const NOT_RUNNING: u8 = 3;
/// Exit code: no worker or model has that name.
const UNKNOWN: u8 = 4;

/// Prints the status; returns the exit code.
pub fn run(reach: &ConnectOptions, names: &[String], json: bool) -> Result<u8, CommandError> {
    let mut report = connect::daemon(reach)?.status()?;
    let names: Vec<TargetName> = names.iter().map(|name| TargetName::read(name)).collect();
    let lines = lines(&report);
    for name in names
        .iter()
        .filter(|name| !lines.iter().any(|line| line.is_called(name)))
    {
        match json {
            true => say::aside(name.unknown()),
            false => say::line(name.unknown()),
        }
    }
    let code = code(&lines, &names);
    if json {
        keep_named(&mut report, &names);
        let text = serde_json::to_string(&report).expect("a status is numbers and words");
        say::line(text);
        return Ok(code);
    }
    if let (Some(so_far), [] | [TargetName::All]) = (report.supervisor.draining_s, names.as_slice())
    {
        let jobs = report.queue.len();
        let so_far = uptime(so_far);
        let detail = format!("for {so_far}, {jobs} jobs to finish, nothing new is accepted");
        say::line(row("supervisor", "DRAINING", &detail));
    }
    let wanted =
        |line: &&StatusLine| names.is_empty() || names.iter().any(|name| line.is_called(name));
    for line in lines.iter().filter(wanted) {
        say::line(row(&line.name, line.state.word(), &line.detail));
    }
    if names.is_empty() {
        for gpu in &report.devices {
            say::line(row(
                &gpu.device,
                gpu.state.word(),
                &gpu_detail(gpu, &report.memory),
            ));
        }
    }
    Ok(code)
}

fn row(name: &str, state: &str, detail: &str) -> String {
    format!("{name:<32} {state:<9} {detail}")
}

/// The line of a GPU: why nothing is placed there, or who has its memory.
fn gpu_detail(gpu: &DeviceStatus, memory: &[MemoryStatus]) -> String {
    let mut parts = vec![gpu.name.clone()];
    if let Some(book) = memory.iter().find(|book| book.device == gpu.device) {
        parts.push(format!(
            "{}/{} MB reserved",
            book.reserved_mb, book.limit_mb
        ));
        let others = [
            ("measured", book.measured_mb),
            ("of others", book.foreign_mb),
        ];
        let settling = (
            "settling",
            Some(book.settling_mb).filter(|settling| *settling > 0),
        );
        let known = others.into_iter().chain([settling]);
        parts.extend(known.filter_map(|(what, mb)| Some(format!("{} MB {what}", mb?))));
    }
    parts.extend(gpu.temperature_c.map(|celsius| format!("{celsius} °C")));
    parts.extend(gpu.reason.clone());
    parts.join(", ")
}

/// The exit code: 4 if a name is unknown, 3 if a named or pinned worker or model is not RUNNING, else 0.
fn code(lines: &[StatusLine], names: &[TargetName]) -> u8 {
    if !names
        .iter()
        .all(|name| lines.iter().any(|line| line.is_called(name)))
    {
        return UNKNOWN;
    }
    let is_down = |line: &&StatusLine| {
        let wanted = names.is_empty() || names.iter().any(|name| line.is_called(name));
        let named = |name: &TargetName| *name != TargetName::All && line.is_called(name);
        let expected = line.pinned || names.iter().any(named);
        // A model counts as RUNNING if one of its workers is; a named worker must be RUNNING itself.
        let alone = names.iter().any(|name| name.is_worker(&line.name));
        let runs = |other: &StatusLine| {
            other.state == WorkerState::Running && (!alone || other.name == line.name)
        };
        let mut serving = lines.iter().filter(|other| other.model == line.model);
        wanted && expected && !serving.any(runs)
    };
    match lines.iter().find(is_down) {
        Some(_) => NOT_RUNNING,
        None => 0,
    }
}

/// Removes from the report the workers, models and jobs that no name covers.
fn keep_named(report: &mut StatusReport, names: &[TargetName]) {
    if names.is_empty() {
        return;
    }
    let named = |worker: &str, model: &str| names.iter().any(|name| name.means(worker, model));
    let workers = &mut report.workers;
    workers.retain(|worker| named(&worker.name, worker.model.as_str()));
    let is_kept = |model: &ModelStatus| {
        let key = model.key.as_str();
        named(&first_slot(key), key) || workers.iter().any(|worker| worker.model == model.key)
    };
    report.models.retain(is_kept);
    let models = &report.models;
    let of_kept = |model: &ModelKey| models.iter().any(|kept| kept.key == *model);
    report.queue.retain(|job| of_kept(&job.model));
}

/// The name printed for a model that has no workers.
fn first_slot(key: &str) -> String {
    format!("{key}:0")
}

/// `pid`: prints the process id of the daemon, or of the named workers.
pub fn pids(reach: &ConnectOptions, names: &[String], json: bool) -> Result<u8, CommandError> {
    let report = connect::daemon(reach)?.status()?;
    let tell = |name: &str, pid: u32| match json {
        true => say::line(serde_json::json!({"name": name, "pid": pid})),
        false => say::line(pid),
    };
    if names.is_empty() {
        tell("supervisor", report.supervisor.pid);
        return Ok(0);
    }
    let mut code = 0;
    for name in names.iter().map(|name| TargetName::read(name)) {
        let named = |worker: &&WorkerStatus| name.means(&worker.name, worker.model.as_str());
        let workers: Vec<_> = report.workers.iter().filter(named).collect();
        let mut pids = workers
            .iter()
            .filter_map(|worker| Some((*worker, worker.pid?)))
            .peekable();
        if pids.peek().is_none() && name != TargetName::All {
            say::aside(name.unknown());
            code = UNKNOWN;
        }
        for (worker, pid) in pids {
            tell(&worker.name, pid);
        }
    }
    Ok(code)
}

/// One line of the output: a worker, or a model without workers.
struct StatusLine {
    name: String,
    model: String,
    state: WorkerState,
    detail: String,
    pinned: bool,
}

impl StatusLine {
    fn is_called(&self, name: &TargetName) -> bool {
        name.means(&self.name, &self.model)
    }
}

fn lines(report: &StatusReport) -> Vec<StatusLine> {
    let mut lines = Vec::new();
    for model in &report.models {
        let workers: Vec<_> = report
            .workers
            .iter()
            .filter(|worker| worker.model == model.key)
            .collect();
        lines.extend(workers.iter().map(|worker| of_worker(worker, model.pinned)));
        if workers.is_empty() {
            lines.push(of_model(model));
        }
    }
    lines
}

fn of_worker(worker: &WorkerStatus, pinned: bool) -> StatusLine {
    let mut parts = Vec::new();
    if let Some(pid) = worker.pid {
        parts.push(format!("pid {pid}"));
        parts.push(format!("uptime {}", uptime(worker.uptime_s)));
    }
    parts.push(worker.device.clone());
    parts.push(memory(worker));
    if let Some(progress) = worker.load_progress {
        parts.push(format!("loading {:.0} %", progress * 100.0));
    }
    if let Some(job) = &worker.job {
        parts.push(format!("job {} step {}/{}", job.id, job.step, job.steps));
    }
    StatusLine {
        name: worker.name.clone(),
        model: worker.model.to_string(),
        state: worker.state,
        detail: parts.join(", "),
        pinned,
    }
}

fn of_model(model: &ModelStatus) -> StatusLine {
    let (state, detail) = model
        .at_rest
        .clone()
        .unwrap_or((WorkerState::Stopped, "Not started".into()));
    StatusLine {
        name: first_slot(model.key.as_str()),
        model: model.key.to_string(),
        state,
        detail,
        pinned: model.pinned,
    }
}

/// Measured and reserved memory, as in `33.1/34.0 GiB`.
fn memory(worker: &WorkerStatus) -> String {
    let reserved = Mebibytes(worker.reserved_mb.values().sum());
    match worker.measured_mb {
        None => reserved.to_string(),
        Some(measured) if reserved.0 >= 1024 => {
            format!("{:.1}/{reserved}", measured as f64 / 1024.0)
        }
        Some(measured) => format!("{measured}/{reserved}"),
    }
}

/// Formats seconds as `H:MM:SS`, after the days if it is a day or longer.
pub fn uptime(seconds: f64) -> String {
    let seconds = seconds as u64;
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let clock = format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    match days {
        0 => clock,
        1 => format!("1 day, {clock}"),
        _ => format!("{days} days, {clock}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_has_supervisorctls_format() {
        assert_eq!(uptime(192.4), "0:03:12");
        assert_eq!(uptime(86_400.0 * 2.0 + 3661.0), "2 days, 1:01:01");
    }
}
