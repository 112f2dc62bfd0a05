//! `imagepool last-crash`: how workers ended that were not asked to, from their obituaries.
//!
//! The daemon has them; if none runs, its state folder.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ipc_protocol::client::{Client, ClientError};
use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::messages::client::Target;
use ipc_protocol::obituary::Obituary;
use ipc_protocol::units::Mebibytes;

use super::duration::uptime;
use super::names::TargetName;
use crate::cli::args::ConnectOptions;
use crate::cli::daemon::connect;
use crate::cli::{CommandError, json_output, say};
use crate::config::paths;
use crate::obituaries::store::ObituaryStore;

/// Exit code: no obituary is kept.
const NONE_KEPT: u8 = 1;

/// Where the state folder of the service is.
const SERVICE_STATE: &str = "/var/lib/imagepool";

/// Where obituaries are read.
#[derive(Debug)]
pub enum ObituarySource {
    /// From a daemon.
    Daemon(Box<Client>),
    /// From a state folder.
    Folder(ObituaryStore),
}

impl ObituarySource {
    /// The given state folder; else the daemon; else the first state folder that has obituaries, if no daemon runs.
    ///
    /// # Errors
    /// There is neither.
    pub fn choose(
        reach: &ConnectOptions,
        state_dir: Option<PathBuf>,
    ) -> Result<Self, CommandError> {
        if let Some(folder) = state_dir {
            let read = ObituaryStore::read(&folder);
            let store = read.map_err(|error| unreadable(&folder, &error))?;
            return Ok(Self::Folder(store));
        }
        let no_daemon = match connect::daemon(reach) {
            Ok(client) => return Ok(Self::Daemon(Box::new(client))),
            Err(error @ ClientError::NoDaemonAnywhere { .. }) => error,
            Err(error) => return Err(error.into()),
        };
        let folders = [paths::given_state_dir(), paths::own_state_dir()];
        let folders = folders.into_iter().flatten().chain([SERVICE_STATE.into()]);
        for folder in folders {
            if let Ok(store) = ObituaryStore::read(&folder) {
                say::aside(format_args!(
                    "imagepool: no daemon runs: these are the obituaries in {}",
                    folder.display()
                ));
                return Ok(Self::Folder(store));
            }
        }
        Err(no_daemon.into())
    }

    /// The newest obituaries, at most `most`.
    fn newest(&mut self, of: Target, most: u32) -> Result<Vec<Obituary>, CommandError> {
        Ok(match self {
            Self::Daemon(client) => client.obituaries(of, most)?,
            Self::Folder(store) => {
                let most = usize::try_from(most).unwrap_or(usize::MAX);
                let newest = store.newest(&of, most).into_iter();
                newest.map(|end| (*end).clone()).collect()
            }
        })
    }

    /// Whether there is a model of this name. Without a daemon nobody knows.
    fn knows(&mut self, name: &TargetName) -> Result<bool, CommandError> {
        Ok(match self {
            Self::Folder(_) => true,
            Self::Daemon(client) => {
                let models = client.status()?.models;
                let is_meant = |model: &str| match name {
                    TargetName::All => true,
                    TargetName::Model(name) | TargetName::Group(name) => name == model,
                    TargetName::Worker(worker) => worker
                        .rsplit_once(':')
                        .is_some_and(|(name, _)| name == model),
                };
                models.iter().any(|model| is_meant(model.key.as_str()))
            }
        })
    }
}

fn unreadable(folder: &Path, error: &std::io::Error) -> CommandError {
    let message = format!("cannot read obituaries in {}: {error}", folder.display());
    match error.kind() {
        ErrorKind::PermissionDenied => Failure::new(FailureKind::NotPermitted, message),
        _ => Failure::new(FailureKind::BadValue, message),
    }
    .into()
}

/// Prints the newest obituaries, at most `most`; returns the exit code.
pub fn run(
    mut source: ObituarySource,
    name: Option<&str>,
    most: u32,
    json: bool,
) -> Result<u8, CommandError> {
    let name = name.map(TargetName::read);
    let target = name.as_ref().map_or(Some(Target::All), TargetName::target);
    let obituaries = match target {
        Some(target) => source.newest(target, most)?,
        None => Vec::new(),
    };
    if obituaries.is_empty()
        && let Some(name) = &name
        && !source.knows(name)?
    {
        let message = format!("{name}: no such process");
        return Err(Failure::new(FailureKind::NoSuchName, message).into());
    }
    if json {
        let values = obituaries.iter().map(serde_json::to_value);
        json_output::list(values.map(|value| value.expect("an obituary is numbers and words")));
    }
    if obituaries.is_empty() {
        let none = none_kept(name.as_ref());
        match json {
            true => say::aside(none),
            false => say::line(none),
        }
        return Ok(NONE_KEPT);
    }
    for (nth, obituary) in obituaries.iter().enumerate().filter(|_| !json) {
        if nth > 0 {
            say::line("");
        }
        lines(obituary).iter().for_each(say::line);
    }
    Ok(0)
}

fn none_kept(name: Option<&TargetName>) -> String {
    match name {
        None | Some(TargetName::All) => "No worker has crashed".into(),
        Some(name) => format!("No worker of {name} has crashed"),
    }
}

/// The text of an obituary.
fn lines(obituary: &Obituary) -> Vec<String> {
    let Obituary {
        worker,
        class,
        time,
        sentence,
        ..
    } = obituary;
    let mut lines = vec![format!("{worker:<32} {class:<22} {time}")];
    let mut row = |what: &str, text: String| {
        if !text.is_empty() {
            lines.push(format!("  {what:<10} {text}"));
        }
    };
    row("how", sentence.clone());
    row("end", end(obituary));
    row("process", process(obituary));
    row("state", state(obituary));
    row("memory", memory(obituary));
    row("files", obituary.files.clone());
    row("message", obituary.message.clone().unwrap_or_default());
    for (nth, next) in obituary.next.iter().enumerate() {
        row(if nth == 0 { "next" } else { "" }, next.clone());
    }
    let count = obituary.lines.len();
    if count == 0 {
        row("stderr", "it wrote nothing".into());
    } else {
        let left_out = match obituary.lines_left_out {
            0 => String::new(),
            earlier => format!(" ({earlier} earlier are left out)"),
        };
        let newest = match count {
            1 => "its last line".to_owned(),
            _ => format!("its last {count} lines"),
        };
        row("stderr", format!("{newest}{left_out}:"));
    }
    lines.extend(obituary.lines.iter().map(|line| format!("    {line}")));
    lines
}

fn end(obituary: &Obituary) -> String {
    let signal = |signal: i32| {
        let sender = match obituary.sender.as_deref() {
            Some("us") => "this daemon",
            Some("operator") => "an operator with `imagepool signal`",
            Some("kernel") => "the kernel",
            Some("itself") => "the worker itself",
            Some("other") => "another process; the kernel does not report which",
            _ => "the worker itself or another process; the kernel does not report which",
        };
        format!("signal {signal}, sent by {sender}")
    };
    let exit_code = obituary.exit_code.map(|code| format!("exit code {code}"));
    let in_a_row = (obituary.in_a_row > 1).then(|| format!("{} in a row", obituary.in_a_row));
    let parts = [exit_code, obituary.signal.map(signal), in_a_row];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn process(obituary: &Obituary) -> String {
    let pid = obituary.pid.map(|pid| format!("pid {pid}, "));
    format!(
        "{}generation {}, on {}, uptime {}, jobs done {}, daemon {}",
        pid.unwrap_or_default(),
        obituary.generation,
        obituary.device,
        uptime(obituary.uptime_s),
        obituary.jobs_done,
        obituary.supervisor_pid,
    )
}

fn state(obituary: &Obituary) -> String {
    let progress = obituary.load_progress;
    let load = progress.map(|progress| format!(", loading {:.0} %", progress * 100.0));
    let job = obituary.job.map(|job| {
        let attempt = obituary
            .attempt
            .map(|attempt| format!(" attempt {attempt}"));
        let step = obituary.step.zip(obituary.steps);
        let step = step.map(|(step, steps)| format!(" step {step}/{steps}"));
        format!(
            ", job {job}{}{}",
            attempt.unwrap_or_default(),
            step.unwrap_or_default()
        )
    });
    let (load, job) = (load.unwrap_or_default(), job.unwrap_or_default());
    format!("{}{load}{job}", obituary.state)
}

fn memory(obituary: &Obituary) -> String {
    let reserved = obituary.reserved_mb.iter();
    let reserved = reserved.map(|(device, mb)| format!("{} of {device} reserved", Mebibytes(*mb)));
    let measured = obituary.measured_mb;
    let measured = measured.map(|mb| format!("{} measured", Mebibytes(mb)));
    let peak = obituary.peak_mb;
    let peak = peak.map(|mb| format!("at most {} of the host", Mebibytes(mb)));
    let parts: Vec<String> = reserved.chain(measured).chain(peak).collect();
    parts.join(", ")
}
