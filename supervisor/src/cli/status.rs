//! `imagepool status`: a line per worker, in supervisorctl's form.

use ipc_protocol::status::{ModelStatus, StatusReport, WorkerState, WorkerStatus};
use ipc_protocol::units::Mebibytes;

use super::args::Reach;
use super::{CommandError, connect, say};

/// A named or pinned thing is not RUNNING.
const NOT_RUNNING: u8 = 3;
/// No worker or model of that name.
const UNKNOWN: u8 = 4;

/// Prints the status; returns the exit code.
pub fn run(reach: &Reach, names: &[String], json: bool) -> Result<u8, CommandError> {
    let report = connect::daemon(reach)?.status()?;
    if json {
        let text = serde_json::to_string(&report).expect("a status is numbers and words");
        say::line(text);
    }
    let lines = lines(&report);
    let mut code = 0;
    for name in names.iter().filter(|name| *name != "all") {
        if !lines.iter().any(|line| line.is_called(name)) {
            say::aside(format_args!("{name}: ERROR (no such process)"));
            code = UNKNOWN;
        }
    }
    let wanted = |line: &&Line| {
        names.is_empty()
            || names
                .iter()
                .any(|name| name == "all" || line.is_called(name))
    };
    for line in lines.iter().filter(wanted) {
        let expected = line.pinned || names.iter().any(|name| line.is_called(name));
        // A model runs when one of its workers does; a worker that was named runs itself.
        let alone = names.contains(&line.name);
        let runs = |other: &Line| {
            other.state == WorkerState::Running && (!alone || other.name == line.name)
        };
        let serves = |other: &&Line| other.model == line.model;
        if expected && code == 0 && !lines.iter().filter(serves).any(runs) {
            code = NOT_RUNNING;
        }
        if !json {
            say::line(format_args!(
                "{:<32} {:<9} {}",
                line.name,
                line.state.word(),
                line.detail
            ));
        }
    }
    Ok(code)
}

/// `pid`: the daemon's process, or those of the workers that were named.
pub fn pids(reach: &Reach, names: &[String]) -> Result<u8, CommandError> {
    let report = connect::daemon(reach)?.status()?;
    if names.is_empty() {
        say::line(report.supervisor.pid);
        return Ok(0);
    }
    let mut code = 0;
    for name in names {
        let named = |worker: &&WorkerStatus| {
            name == "all" || worker.name == *name || worker.model.as_str() == name
        };
        let pids: Vec<u32> = report
            .workers
            .iter()
            .filter(named)
            .filter_map(|worker| worker.pid)
            .collect();
        if pids.is_empty() {
            say::aside(format_args!("{name}: ERROR (no such process)"));
            code = UNKNOWN;
        }
        for pid in pids {
            say::line(pid);
        }
    }
    Ok(code)
}

/// `jobs`: a line per job without an answer.
pub fn jobs(reach: &Reach, json: bool) -> Result<u8, CommandError> {
    let report = connect::daemon(reach)?.status()?;
    if json {
        let text = serde_json::to_string(&report.queue).expect("jobs are numbers and words");
        say::line(text);
        return Ok(0);
    }
    for job in &report.queue {
        say::line(format_args!(
            "{:<8} {:<24} {:<8} {:>6.1} s  {}",
            job.job.0,
            job.model.as_str(),
            job.state,
            job.waiting_s,
            job.reason
        ));
    }
    Ok(0)
}

/// One line: a worker, or a model without one.
struct Line {
    name: String,
    model: String,
    state: WorkerState,
    detail: String,
    pinned: bool,
}

impl Line {
    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.model == name
    }
}

fn lines(report: &StatusReport) -> Vec<Line> {
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

fn of_worker(worker: &WorkerStatus, pinned: bool) -> Line {
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
    Line {
        name: worker.name.clone(),
        model: worker.model.to_string(),
        state: worker.state,
        detail: parts.join(", "),
        pinned,
    }
}

fn of_model(model: &ModelStatus) -> Line {
    let (state, detail) = model
        .at_rest
        .clone()
        .unwrap_or((WorkerState::Stopped, "Not started".into()));
    Line {
        name: format!("{}:0", model.key),
        model: model.key.to_string(),
        state,
        detail,
        pinned: model.pinned,
    }
}

/// Held of promised, `33.1/34.0 GiB`.
fn memory(worker: &WorkerStatus) -> String {
    let promised = Mebibytes(worker.reserved_mb.values().sum());
    match worker.measured_mb {
        None => promised.to_string(),
        Some(held) if promised.0 >= 1024 => {
            format!("{:.1}/{promised}", held as f64 / 1024.0)
        }
        Some(held) => format!("{held}/{promised}"),
    }
}

/// `H:MM:SS`, with days before it where there are any.
fn uptime(seconds: f64) -> String {
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
    fn uptime_reads_like_supervisorctls() {
        assert_eq!(uptime(192.4), "0:03:12");
        assert_eq!(uptime(86_400.0 * 2.0 + 3661.0), "2 days, 1:01:01");
    }
}
