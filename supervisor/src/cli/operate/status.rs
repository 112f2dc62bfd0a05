//! `imagepool status` and `pid`: one line per worker, in supervisorctl's form.

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::ModelKey;
use ipc_protocol::status::{
    DeviceState, DeviceStatus, MemoryStatus, ModelStatus, StatusReport, WorkerState, WorkerStatus,
};
use ipc_protocol::units::{Mebibytes, counted};
use serde_json::{Value, json};

use super::duration::uptime;
use super::names::TargetName;
use crate::cli::args::ConnectOptions;
use crate::cli::colour::{ColourChoice, Tone};
use crate::cli::daemon::connect;
use crate::cli::text::{OutputFormat, TonedLine, wrapped};
use crate::cli::{CommandError, described, say};

/// Exit code: a named or pinned worker or model is not RUNNING.
const NOT_RUNNING: u8 = 3;
/// Exit code: no worker or model has that name.
const UNKNOWN: u8 = 4;

/// Width of the column of names, as in supervisorctl.
const NAME_WIDTH: usize = 33;
/// Width of the column of states, as in supervisorctl.
const STATE_WIDTH: usize = 10;
/// Narrowest column of details: a terminal that leaves less has narrower names.
const DETAIL_LEAST: usize = 52;

/// The options of `status`.
#[derive(Debug, Clone, Copy)]
pub struct StatusOptions {
    /// Whether to print one JSON object.
    pub json: bool,
    /// Colours of the lines.
    pub colour: ColourChoice,
}

/// Prints the status; returns the exit code.
pub fn run(
    reach: &ConnectOptions,
    names: &[String],
    options: StatusOptions,
) -> Result<u8, CommandError> {
    let mut report = connect::daemon(reach)?.status()?;
    let names: Vec<TargetName> = names.iter().map(|name| TargetName::read(name)).collect();
    let lines = lines(&report, reach.verbose || !names.is_empty());
    for name in names
        .iter()
        .filter(|name| !lines.iter().any(|line| line.is_called(name)))
    {
        match options.json {
            true => say::aside(name.unknown()),
            false => say::line(name.unknown()),
        }
    }
    let code = code(&lines, &names);
    if options.json {
        keep_named(&mut report, &names);
        let text = serde_json::to_string(&report).expect("a status is numbers and words");
        say::line(text);
        return Ok(code);
    }
    let rows = rows(&report, &lines, &names);
    let format = OutputFormat::of_stdout(options.colour);
    for line in laid_out(&rows, format.columns) {
        say::painted(&line.print(format.is_coloured));
    }
    Ok(code)
}

/// A row of the output.
#[derive(Debug)]
struct StatusRow {
    name: String,
    tone: Tone,
    state: String,
    detail: Vec<String>,
}

/// The rows of the named lines; without names, of everything.
fn rows(report: &StatusReport, lines: &[StatusLine], names: &[TargetName]) -> Vec<StatusRow> {
    let mut rows = Vec::new();
    if let (Some(so_far), [] | [TargetName::All]) = (report.supervisor.draining_s, names) {
        let jobs = counted(report.queue.len() as u64, "job");
        let so_far = uptime(so_far);
        rows.push(StatusRow {
            name: "supervisor".into(),
            tone: Tone::Warning,
            state: "DRAINING".into(),
            detail: vec![
                format!("for {so_far}"),
                format!("{jobs} to finish"),
                "nothing new is accepted".into(),
                "`imagepool drain --undo` ends that unless it shuts down".into(),
            ],
        });
    }
    if let (Some(left), [] | [TargetName::All]) = (report.supervisor.yielding_s, names) {
        rows.push(StatusRow {
            name: "supervisor".into(),
            tone: Tone::Warning,
            state: "YIELDING".into(),
            detail: vec![
                format!("for {} more", uptime(left)),
                "memory is left to other programs".into(),
                "jobs wait".into(),
            ],
        });
    }
    let supervisor = &report.supervisor;
    let journal = match supervisor.journal.as_str() {
        "failing" => Some((Tone::Bad, "FAILING", "detached requests are refused")),
        "renewed" => Some((Tone::Warning, "RENEWED", "earlier detached jobs are lost")),
        _ => None,
    };
    if let (Some((tone, state, so)), [] | [TargetName::All]) = (journal, names) {
        rows.push(StatusRow {
            name: "journal".into(),
            tone,
            state: state.into(),
            detail: vec![so.into(), supervisor.journal_detail.clone()],
        });
    }
    let wanted =
        |line: &&StatusLine| names.is_empty() || names.iter().any(|name| line.is_called(name));
    rows.extend(lines.iter().filter(wanted).map(|line| StatusRow {
        name: line.name.clone(),
        tone: tone(line.state),
        state: line.state.word().into(),
        detail: line.detail.clone(),
    }));
    if names.is_empty() {
        rows.extend(report.devices.iter().map(|gpu| StatusRow {
            name: gpu.device.clone(),
            tone: match gpu.state {
                DeviceState::Ready => Tone::Good,
                DeviceState::Unmeasured | DeviceState::Resting => Tone::Warning,
                DeviceState::Lost => Tone::Bad,
            },
            state: gpu.state.word().into(),
            detail: gpu_detail(gpu, &report.memory),
        }));
    }
    rows
}

/// The colour of a state.
pub fn tone(state: WorkerState) -> Tone {
    match state {
        WorkerState::Running => Tone::Good,
        WorkerState::Starting | WorkerState::Stopping | WorkerState::Backoff => Tone::Warning,
        WorkerState::Fatal => Tone::Bad,
        WorkerState::Stopped | WorkerState::Exited => Tone::Faint,
    }
}

/// The lines of the rows. In a terminal, names are narrower if they can be, and long details continue on further lines
/// below their column; elsewhere a row is one line of supervisorctl's columns.
fn laid_out(rows: &[StatusRow], columns: Option<usize>) -> Vec<TonedLine> {
    let longest = rows
        .iter()
        .map(|row| TonedLine::of(Tone::Plain, &row.name).width());
    let longest = longest.max().unwrap_or(0);
    let usual = NAME_WIDTH.max(longest + 3);
    let name_width = match columns {
        None => usual,
        Some(columns) => {
            let fits = columns.saturating_sub(STATE_WIDTH + DETAIL_LEAST);
            fits.clamp(longest + 2, usual)
        }
    };
    let before = name_width + STATE_WIDTH;
    let mut lines = Vec::new();
    for row in rows {
        let details = match columns.and_then(|columns| columns.checked_sub(before + 1)) {
            Some(room) => wrapped(&row.detail, room),
            None => vec![row.detail.join(", ")],
        };
        let begin = TonedLine::of(Tone::Plain, &row.name)
            .pad(name_width)
            .and(row.tone, &row.state)
            .pad(before);
        let begins = std::iter::once(begin);
        let below = std::iter::repeat_with(|| TonedLine::default().pad(before));
        let details = details.into_iter().map(Some).chain([None]);
        for (nth, (begin, detail)) in begins.chain(below).zip(details).enumerate() {
            match detail {
                Some(detail) => lines.push(begin.and(Tone::Plain, detail)),
                None if nth == 0 => lines.push(begin),
                None => {}
            }
        }
    }
    lines
}

/// The parts of a GPU's line: why nothing is placed there, or who has its memory.
fn gpu_detail(gpu: &DeviceStatus, memory: &[MemoryStatus]) -> Vec<String> {
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
    parts
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
        true => say::line(json!({"name": name, "pid": pid, "error": null})),
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
        if pids.peek().is_none() {
            if name != TargetName::All {
                say::aside(name.unknown());
                code = UNKNOWN;
            }
            if json {
                say::line(without_pid(&name));
            }
        }
        for (worker, pid) in pids {
            tell(&worker.name, pid);
        }
    }
    Ok(code)
}

/// The JSON of a name without a process, which is an error unless the name is `all`.
fn without_pid(name: &TargetName) -> Value {
    let failure = Failure::new(FailureKind::NoSuchName, "no such process");
    let error = (*name != TargetName::All).then(|| described(&failure));
    json!({"name": name.to_string(), "pid": null, "error": error})
}

/// One line of the output: a worker, or a model without workers.
struct StatusLine {
    name: String,
    model: String,
    state: WorkerState,
    detail: Vec<String>,
    pinned: bool,
}

impl StatusLine {
    fn is_called(&self, name: &TargetName) -> bool {
        name.means(&self.name, &self.model)
    }
}

/// The lines of all workers, and of models without any. `verbose` adds the reason why a model's files are not here.
fn lines(report: &StatusReport, verbose: bool) -> Vec<StatusLine> {
    let mut lines = Vec::new();
    for model in &report.models {
        let workers: Vec<_> = report
            .workers
            .iter()
            .filter(|worker| worker.model == model.key)
            .collect();
        lines.extend(workers.iter().map(|worker| of_worker(worker, model)));
        if workers.is_empty() {
            lines.push(of_model(model, verbose));
        }
    }
    lines
}

/// The word for a model that is no longer offered and finishes its jobs.
const LEAVING: &str = "leaving";

fn of_worker(worker: &WorkerStatus, model: &ModelStatus) -> StatusLine {
    let mut parts = Vec::new();
    if let Some(pid) = worker.pid {
        parts.push(format!("pid {pid}"));
        parts.push(format!("uptime {}", uptime(worker.uptime_s)));
    }
    parts.push(worker.device.clone());
    parts.push(memory(worker));
    if let Some(reached) = worker.sandbox.filter(|reached| !reached.is_full()) {
        parts.push(format!("sandbox {}", reached.word()));
    }
    if let Some(progress) = worker.load_progress {
        parts.push(format!("loading {:.0} %", progress * 100.0));
    }
    if let Some(job) = &worker.job {
        parts.push(format!("job {} step {}/{}", job.id, job.step, job.steps));
    }
    if model.state == LEAVING {
        parts.push("its model is no longer offered".into());
    }
    StatusLine {
        name: worker.name.clone(),
        model: worker.model.to_string(),
        state: worker.state,
        detail: parts,
        pinned: model.pinned && model.state != LEAVING,
    }
}

/// Before the reason why a model without files was not started, as a report has it.
const NOT_STARTED: &str = "Not started: ";

fn of_model(model: &ModelStatus, verbose: bool) -> StatusLine {
    let (state, detail) = match &model.at_rest {
        Some((state, reason)) if !verbose && reason.starts_with(NOT_STARTED) => {
            (*state, "Not started, files missing".to_owned())
        }
        Some((state, reason)) => (*state, reason.clone()),
        None => (WorkerState::Stopped, "Not started".into()),
    };
    StatusLine {
        name: first_slot(model.key.as_str()),
        model: model.key.to_string(),
        state,
        detail: vec![detail],
        pinned: model.pinned && model.state != LEAVING,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, state: WorkerState, detail: &[&str]) -> StatusRow {
        StatusRow {
            name: name.into(),
            tone: tone(state),
            state: state.word().into(),
            detail: detail.iter().map(|part| (*part).to_owned()).collect(),
        }
    }

    fn text(rows: &[StatusRow], columns: Option<usize>) -> Vec<String> {
        let lines = laid_out(rows, columns);
        lines.iter().map(|line| line.print(false)).collect()
    }

    #[test]
    fn a_row_outside_a_terminal_has_supervisorctls_columns() {
        let rows = [
            row(
                "syn:0",
                WorkerState::Running,
                &["pid 4711", "uptime 0:03:12"],
            ),
            row("other:0", WorkerState::Stopped, &["Not started"]),
        ];
        assert_eq!(
            text(&rows, None),
            [
                "syn:0                            RUNNING   pid 4711, uptime 0:03:12",
                "other:0                          STOPPED   Not started",
            ]
        );
        let long = [row(&"k".repeat(40), WorkerState::Fatal, &["x"])];
        assert_eq!(
            text(&long, None),
            [format!("{}   FATAL     x", "k".repeat(40))]
        );
    }

    #[test]
    fn a_row_in_a_terminal_continues_below_its_detail() {
        let parts = [
            "pid 4711",
            "uptime 0:03:12",
            "cuda:0",
            "33.1/34.0 GiB",
            "job 17 step 3/4",
        ];
        let rows = [row("flux-schnell:0", WorkerState::Running, &parts)];
        assert_eq!(
            text(&rows, Some(80)),
            [
                "flux-schnell:0    RUNNING   pid 4711, uptime 0:03:12, cuda:0, 33.1/34.0 GiB,",
                "                            job 17 step 3/4",
            ]
        );
        assert_eq!(text(&rows, Some(200)), text(&rows, None));
        for columns in 40..120 {
            let lines = text(&rows, Some(columns));
            assert!(
                lines.iter().all(|line| line.chars().count() < columns),
                "{lines:#?}"
            );
        }
        let empty = [row("syn:0", WorkerState::Stopped, &[])];
        assert_eq!(text(&empty, Some(80)), ["syn:0             STOPPED"]);
    }

    #[test]
    fn a_model_without_files_has_a_short_word_and_its_reason_on_request() {
        let model = ModelStatus {
            key: ModelKey::new("flux-schnell").expect("a plain key"),
            family: "flux".into(),
            state: "missing".into(),
            need_mb: 1,
            pinned: false,
            at_rest: Some((WorkerState::Stopped, "Not started: a long reason".into())),
        };
        assert_eq!(
            of_model(&model, false).detail,
            ["Not started, files missing"]
        );
        assert_eq!(
            of_model(&model, true).detail,
            ["Not started: a long reason"]
        );
        let fetching = (WorkerState::Stopped, "Fetching its files, 40 %".to_owned());
        let model = ModelStatus {
            at_rest: Some(fetching),
            ..model
        };
        assert_eq!(of_model(&model, false).detail, ["Fetching its files, 40 %"]);
    }
}
