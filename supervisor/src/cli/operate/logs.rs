//! `tail` and `maintail`: the end of a log, and its further lines.

use std::io::{IsTerminal, stderr, stdout};
use std::sync::atomic::{AtomicBool, Ordering};

use ipc_protocol::client::ClientError;
use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::{ModelKey, WorkerName};
use ipc_protocol::log::{LogLines, LogRequest, LogSource};
use ipc_protocol::messages::client::Target;
use serde_json::json;

use super::names::TargetName;
use super::verbs::VerbOutput;
use crate::cli::args::ConnectOptions;
use crate::cli::daemon::connect;
use crate::cli::draw::interrupt;
use crate::cli::{CommandError, say};

/// The number of bytes without `-N`, as in supervisorctl.
const BYTES: u64 = 1600;
/// Exit code: there is no such worker.
const FAILED: u8 = 1;

/// `tail [-f] [-N] NAME`.
pub fn tail(
    reach: &ConnectOptions,
    output: VerbOutput,
    words: &[String],
    follow: bool,
) -> Result<u8, CommandError> {
    let (bytes, rest) = read(words)?;
    // supervisorctl takes a channel too. Workers have one: what they print on stdout goes to stderr.
    let name = match rest.as_slice() {
        [name] | [name, "stdout" | "stderr"] => *name,
        [] => {
            return Err(usage(
                "tail needs the name of a worker, as `imagepool status` prints it",
            ));
        }
        [..] => return Err(usage("tail takes one name: imagepool tail [-f] [-N] NAME")),
    };
    let Some(worker) = worker(name) else {
        output.line(&unknown(name));
        return Ok(FAILED);
    };
    let request = LogRequest {
        source: LogSource::Worker(worker),
        bytes,
        follow,
    };
    match print(reach, output, name, request) {
        Err(CommandError::Failure(failure)) if failure.kind == FailureKind::NoSuchName => {
            output.line(&unknown(name));
            Ok(FAILED)
        }
        done => done,
    }
}

/// `maintail [-f] [-N]`.
pub fn main_tail(
    reach: &ConnectOptions,
    output: VerbOutput,
    words: &[String],
    follow: bool,
) -> Result<u8, CommandError> {
    let (bytes, rest) = read(words)?;
    if let Some(word) = rest.first() {
        let why = format!("{word:?} is not a number of bytes: imagepool maintail [-f] [-N]");
        return Err(usage(&why));
    }
    let request = LogRequest {
        source: LogSource::Daemon,
        bytes,
        follow,
    };
    print(reach, output, "supervisor", request)
}

/// Splits the words into the number of bytes, `-N`, and the rest.
fn read(words: &[String]) -> Result<(u64, Vec<&str>), CommandError> {
    let (mut bytes, mut rest) = (BYTES, Vec::new());
    for word in words {
        match word.strip_prefix('-') {
            None => rest.push(word.as_str()),
            Some(number) => {
                bytes = number.parse().map_err(|_| {
                    usage(&format!(
                        "{word:?} is not a number of bytes: use one like -100"
                    ))
                })?;
            }
        }
    }
    Ok((bytes, rest))
}

/// The worker that a name means: a model alone means its slot 0.
fn worker(name: &str) -> Option<WorkerName> {
    match TargetName::read(name).target()? {
        Target::Worker(worker) => Some(worker),
        Target::Model(_) if name.contains(':') => None,
        Target::Model(model) => Some(first(model)),
        Target::All => None,
    }
}

fn first(model: ModelKey) -> WorkerName {
    WorkerName { model, slot: 0 }
}

fn unknown(name: &str) -> String {
    format!("{name}: ERROR (no such process name)")
}

fn usage(why: &str) -> CommandError {
    Failure::new(FailureKind::BadValue, why).into()
}

fn print(
    reach: &ConnectOptions,
    output: VerbOutput,
    name: &str,
    request: LogRequest,
) -> Result<u8, CommandError> {
    let follow = request.follow;
    let mut client = connect::daemon(reach)?;
    let interrupted = follow.then(|| interrupt::leaves(client.canceller()));
    let end = |error| end(error, interrupted.as_deref());
    if follow && !output.json && !reach.quiet && stdout().is_terminal() {
        say::aside("==> Press Ctrl-C to exit <==");
    }
    let listing = match client.tail(request) {
        Ok(listing) => listing,
        Err(error) => return end(error),
    };
    for lines in listing {
        match lines {
            Ok(lines) => print_lines(output, name, &lines),
            Err(error) => return end(error),
        }
        if say::is_lost() {
            break;
        }
    }
    Ok(0)
}

/// The end of a listing by an error. Ctrl-C, which `interrupted` notes, is the usual end of one that is followed.
pub(super) fn end(
    error: ClientError,
    interrupted: Option<&AtomicBool>,
) -> Result<u8, CommandError> {
    if !interrupted.is_some_and(|flag| flag.load(Ordering::Acquire)) {
        return Err(error.into());
    }
    if stderr().is_terminal() {
        // The terminal has printed `^C` without an end of the line.
        say::aside("");
    }
    Ok(0)
}

fn print_lines(output: VerbOutput, name: &str, LogLines { lines, missed }: &LogLines) {
    match (missed, output.json) {
        (0, _) => {}
        (missed, true) => say::line(json!({"name": name, "missed": missed})),
        (1, false) => say::aside("imagepool: 1 line was written too fast to be printed"),
        (missed, false) => say::aside(format_args!(
            "imagepool: {missed} lines were written too fast to be printed"
        )),
    }
    for line in lines {
        match output.json {
            true => say::line(json!({"name": name, "line": line})),
            false => say::line(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_number_of_bytes_may_stand_before_or_after_the_name() {
        for text in ["-100 syn:0", "syn:0 -100"] {
            let words = words(text);
            let (bytes, rest) = read(&words).expect("both are allowed");
            assert_eq!((bytes, rest), (100, vec!["syn:0"]));
        }
        assert_eq!(read(&words("syn:0")).expect("a name").0, BYTES);
        for text in ["-x syn:0", "--5 syn:0", "- syn:0"] {
            assert!(read(&words(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_model_means_its_first_slot_and_a_group_no_worker() {
        let slot = |text| worker(text).map(|worker| worker.slot);
        assert_eq!(slot("syn"), Some(0));
        assert_eq!(slot("syn:3"), Some(3));
        for text in ["syn:*", "syn:", "all", "", "a b"] {
            assert_eq!(slot(text), None, "{text}");
        }
    }
}
