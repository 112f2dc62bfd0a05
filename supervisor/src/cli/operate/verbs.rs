//! The operator's verbs: sends them to the daemon and prints its answers.

use ipc_protocol::client::{Client, ClientError};
use ipc_protocol::failure::{Failure, FailureKind, Field};
use ipc_protocol::ids::JobId;
use ipc_protocol::messages::client::{Target, Told, Verb};
use ipc_protocol::version::BUILD;
use serde_json::{Value, json};

use super::names::TargetName;
use crate::cli::args::{ConnectOptions, QuarantineCommand};
use crate::cli::daemon::connect;
use crate::cli::{CommandError, described, json_output, say};

/// `stop`, `start` and `restart`: prints a result for every name; returns the highest exit code.
pub fn each(
    reach: &ConnectOptions,
    names: &[String],
    teller: VerbOutput,
    verb: impl Fn(Target) -> Verb,
) -> Result<u8, CommandError> {
    let mut client = connect::daemon(reach)?;
    let mut code = 0;
    for name in names.iter().map(|name| TargetName::read(name)) {
        let Some(target) = name.target() else {
            teller.line(&name.unknown());
            code = code.max(FAILED);
            continue;
        };
        let mut told = match client.operate(verb(target)) {
            Err(ClientError::Refused(failure)) => {
                teller.refused(&name.to_string(), &failure);
                code = code.max(failure.kind.exit_code());
                continue;
            }
            told => told?,
        };
        if let TargetName::Group(model) = &name
            && told.lines == [TargetName::Model(model.clone()).unknown()]
        {
            told.lines = vec![name.unknown()];
        }
        code = code.max(teller.print(&told, &name.to_string()));
    }
    Ok(code)
}

/// Sends a verb whose answer is lines of the form `NAME: WORD`.
pub fn tell(reach: &ConnectOptions, teller: VerbOutput, verb: Verb) -> Result<u8, CommandError> {
    let told = connect::daemon(reach)?.operate(verb)?;
    Ok(teller.print(&told, "all"))
}

/// Sends a verb about one model, which supervisorctl does not have; an unknown name exits with 4.
pub fn tell_of_name(
    reach: &ConnectOptions,
    teller: VerbOutput,
    verb: Verb,
) -> Result<u8, CommandError> {
    let told = connect::daemon(reach)?.operate(verb)?;
    let code = teller.print(&told, "all");
    let is_unknown = |line: &String| {
        let message = line
            .split_once(": ")
            .map_or(line.as_str(), |(_, rest)| rest);
        error_in(message).is_some_and(|why| error_kind(why) == FailureKind::NoSuchName.word())
    };
    Ok(match told.lines.iter().any(is_unknown) {
        true => FailureKind::NoSuchName.exit_code(),
        false => code,
    })
}

/// `drain [--undo]`.
pub fn drain(reach: &ConnectOptions, teller: VerbOutput, undo: bool) -> Result<u8, CommandError> {
    let verb = match undo {
        true => Verb::Undrain,
        false => Verb::Drain,
    };
    sentence(reach, teller, verb)
}

/// Sends a verb whose answer is sentences.
pub fn sentence(
    reach: &ConnectOptions,
    teller: VerbOutput,
    verb: Verb,
) -> Result<u8, CommandError> {
    let told = connect::daemon(reach)?.operate(verb)?;
    told.lines.iter().for_each(|line| teller.about(None, line));
    Ok(code(&told))
}

/// `why JOB`.
pub fn why(reach: &ConnectOptions, teller: VerbOutput, job: u64) -> Result<u8, CommandError> {
    let told = connect::daemon(reach)?.operate(Verb::Why { job: JobId(job) })?;
    let job = job.to_string();
    for line in &told.lines {
        teller.about(Some(&job), line);
    }
    Ok(code(&told))
}

/// `plan MODEL [--size WxH]`, in the pool that `generate` would use.
pub fn plan(
    reach: &ConnectOptions,
    model: String,
    size: Option<&str>,
    is_json: bool,
) -> Result<u8, CommandError> {
    let verb = Verb::Plan {
        model: model.clone(),
        size: size
            .map(str::parse)
            .transpose()
            .map_err(|why: String| Failure::bad_value(Field::Size, why))?,
    };
    let (mut client, private) = connect::pool(reach)?;
    let told = client.operate(verb)?;
    connect::say_who_draws(reach, private.as_ref());
    match is_json {
        true => say::line(json!({
            "model": model,
            "size": size,
            "possible": told.success,
            "lines": told.lines,
        })),
        false => told.lines.iter().for_each(say::line),
    }
    Ok(code(&told))
}

/// `quarantine [list|release|drop]`.
pub fn quarantine(
    reach: &ConnectOptions,
    teller: VerbOutput,
    what: Option<QuarantineCommand>,
) -> Result<u8, CommandError> {
    let digest = match what {
        None | Some(QuarantineCommand::List) => {
            let told = connect::daemon(reach)?.operate(Verb::Quarantined)?;
            teller.listed(&told.lines);
            return Ok(code(&told));
        }
        Some(QuarantineCommand::Release { digest }) => Some(digest),
        Some(QuarantineCommand::Drop) => None,
    };
    tell_of_name(reach, teller, Verb::Release { digest })
}

/// `shutdown`: drains the daemon; prints `Shut down` after its process has exited.
pub fn shutdown(reach: &ConnectOptions, teller: VerbOutput) -> Result<u8, CommandError> {
    let mut client = connect::daemon(reach)?;
    client.operate(Verb::Shutdown)?;
    client.wait_for_end().map_err(CommandError::Client)?;
    teller.about(None, "Shut down");
    Ok(0)
}

/// `version`: prints the version of this program, and the daemon's if one answers.
pub fn version(reach: &ConnectOptions, is_json: bool) -> Result<u8, CommandError> {
    let daemon = connect::daemon_if_any(reach)?;
    if is_json {
        let supervisor =
            daemon.map(|Client { version, pid, .. }| json!({"version": version, "pid": pid}));
        say::line(json!({"imagepool": BUILD, "supervisor": supervisor}));
        return Ok(0);
    }
    say::line(format_args!("imagepool {BUILD}"));
    if let Some(Client { version, pid, .. }) = daemon {
        say::line(format_args!("supervisor {version}, pid {pid}"));
    }
    Ok(0)
}

/// Exit code: the command failed.
pub const FAILED: u8 = 1;

/// The exit code, as in supervisorctl. A target already in the wanted state counts as success.
fn code(told: &Told) -> u8 {
    match told.success {
        true => 0,
        false => FAILED,
    }
}

/// Prints results as lines, or as one JSON object `{"verb","name","message","error"}` per line. `error` is null, or an
/// object as a command's own error: `{"kind","field","message"}`.
#[derive(Debug, Clone, Copy)]
pub struct VerbOutput {
    /// The verb as typed.
    pub verb: &'static str,
    /// Whether to print JSON.
    pub json: bool,
}

impl VerbOutput {
    /// Prints the results of a verb about `target`; returns the exit code.
    fn print(self, told: &Told, target: &str) -> u8 {
        told.lines.iter().for_each(|line| self.line(line));
        if self.json && told.lines.is_empty() {
            self.object(Some(target), "nothing to do");
        }
        code(told)
    }

    /// Prints the refusal of a verb about `name`.
    fn refused(self, name: &str, failure: &Failure) {
        let message = format!("ERROR ({failure})");
        match self.json {
            false => say::line(format_args!("{name}: {message}")),
            true => say::line(json!({
                "verb": self.verb, "name": name, "message": message, "error": described(failure),
            })),
        }
    }

    /// Prints a line `NAME: WORD` or `NAME: ERROR (WHY)`, or a line without a name.
    pub fn line(self, line: &str) {
        match self.json {
            false => say::line(line),
            true => match line.split_once(": ") {
                Some(("ERROR", _)) | None => self.object(None, line),
                Some((name, message)) => self.object(Some(name), message),
            },
        }
    }

    /// Prints a sentence about `name`.
    fn about(self, name: Option<&str>, sentence: &str) {
        match self.json {
            false => say::line(sentence),
            true => self.object(name, sentence),
        }
    }

    /// Prints a list whose lines begin with a name.
    fn listed(self, lines: &[String]) {
        match self.json {
            false => lines.iter().for_each(say::line),
            true => json_output::list(lines.iter().map(|line| {
                let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
                object(self.verb, Some(name), rest.trim_start())
            })),
        }
    }

    fn object(self, name: Option<&str>, message: &str) {
        say::line(object(self.verb, name, message));
    }
}

fn object(verb: &str, name: Option<&str>, message: &str) -> Value {
    let error = error_in(message)
        .map(|why| json!({"kind": error_kind(why), "field": null, "message": why}));
    json!({"verb": verb, "name": name, "message": message, "error": error})
}

/// The reason in `ERROR (REASON)` or `ERROR: REASON`.
fn error_in(message: &str) -> Option<&str> {
    let in_brackets = message
        .strip_prefix("ERROR (")
        .and_then(|why| why.strip_suffix(')'));
    in_brackets.or_else(|| message.strip_prefix("ERROR: "))
}

/// The kind of an error that supervisorctl has a text for.
fn error_kind(why: &str) -> &'static str {
    match why {
        "no such process" | "no such process name" | "no such group" | "not in quarantine" => {
            FailureKind::NoSuchName.word()
        }
        "bad signal name" => FailureKind::BadValue.word(),
        _ if why.starts_with("no such group: ") => FailureKind::NoSuchName.word(),
        _ if why.starts_with("CANT_REREAD: ") => "bad_settings",
        _ => "verb_failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_the_error_in_a_field_of_its_own() {
        let failed = object("stop", Some("syn:0"), "ERROR (not running (yet))");
        assert_eq!(failed["error"]["message"], "not running (yet)");
        assert_eq!(failed["error"]["kind"], "verb_failed");
        let unknown = object("stop", Some("a"), "ERROR (no such process)");
        assert_eq!(unknown["error"]["kind"], "no_such_name");
        let went_well = object("stop", Some("syn:0"), "stopped");
        assert!(went_well["error"].is_null());
        assert_eq!(went_well["message"], "stopped");
        let unread = object("reread", None, "ERROR: CANT_REREAD: a.toml: line 2: no");
        assert_eq!(
            unread["error"]["message"],
            "CANT_REREAD: a.toml: line 2: no"
        );
        assert_eq!(unread["error"]["kind"], "bad_settings");
    }
}
