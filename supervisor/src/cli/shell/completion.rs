//! Completes a line of the shell: commands, options, and names of workers, models and jobs.

use clap::{Arg, Command};
use ipc_protocol::status::StatusReport;

/// The names that a daemon knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownNames {
    /// Workers, `MODEL:SLOT`.
    pub workers: Vec<String>,
    /// Models.
    pub models: Vec<String>,
    /// Jobs that are not answered yet.
    pub jobs: Vec<String>,
}

impl KnownNames {
    /// The names in a report.
    pub fn of(report: &StatusReport) -> Self {
        Self {
            workers: report
                .workers
                .iter()
                .map(|worker| worker.name.clone())
                .collect(),
            models: report
                .models
                .iter()
                .map(|model| model.key.to_string())
                .collect(),
            jobs: report.queue.iter().map(|job| job.job.to_string()).collect(),
        }
    }
}

/// The completions of the last word of `before`, the line up to the cursor. Returns where that word begins.
/// `names` is called only if a name is wanted there.
pub fn complete(
    program: &Command,
    before: &str,
    names: impl FnOnce() -> KnownNames,
) -> (usize, Vec<String>) {
    let start = before.rfind(char::is_whitespace).map_or(0, |at| at + 1);
    let word = &before[start..];
    let earlier: Vec<&str> = before[..start].split_whitespace().collect();
    let earlier = match earlier.split_first() {
        Some((&"imagepool", rest)) => rest,
        _ => &earlier,
    };
    let mut found = candidates(program, earlier, word, names);
    found.retain(|candidate| candidate.starts_with(word));
    found.sort();
    found.dedup();
    (start, found)
}

/// Those of the completions that are names of workers, models and jobs.
pub fn complete_names(
    program: &Command,
    before: &str,
    names: impl FnOnce() -> KnownNames,
) -> Vec<String> {
    let mut wants_names = false;
    let asked = || {
        wants_names = true;
        names()
    };
    let (_, found) = complete(program, before, asked);
    match wants_names {
        true => found,
        false => Vec::new(),
    }
}

fn candidates(
    program: &Command,
    earlier: &[&str],
    word: &str,
    names: impl FnOnce() -> KnownNames,
) -> Vec<String> {
    let Some((command, positions, awaited)) = follow(program, earlier) else {
        return Vec::new();
    };
    if let Some(option) = awaited {
        return match option.get_id().as_str() {
            "model" => names().models,
            _ => values(option),
        };
    }
    if word.starts_with('-') {
        return options(program, command);
    }
    let subcommands = names_of(command);
    if !subcommands.is_empty() {
        let for_shell = ["exit", "quit"].map(str::to_owned);
        let is_top = std::ptr::eq(command, program);
        return subcommands
            .into_iter()
            .chain(for_shell.into_iter().filter(|_| is_top))
            .collect();
    }
    let Some(argument) = argument(command, positions) else {
        return Vec::new();
    };
    match argument.get_id().as_str() {
        "names" | "name" => {
            let known = names();
            let all = known.workers.into_iter().chain(known.models);
            all.chain(["all".to_owned()]).collect()
        }
        "model" | "models" => names().models,
        "job" => names().jobs,
        _ => values(argument),
    }
}

/// Follows the words to their command. Returns it with the number of its arguments so far, and the option whose value
/// comes next; `None` if a word is not a command.
fn follow<'a>(
    program: &'a Command,
    words: &[&str],
) -> Option<(&'a Command, usize, Option<&'a Arg>)> {
    let (mut command, mut positions, mut awaited) = (program, 0, None);
    for word in words {
        if awaited.take().is_some() {
            continue;
        }
        if word.starts_with('-') && word.len() > 1 {
            awaited = option(program, command, word).filter(|option| takes_value(option));
            continue;
        }
        match command.find_subcommand(word) {
            Some(below) => command = below,
            // `help` takes the names of all commands.
            None if *word == "help" && std::ptr::eq(command, program) => {}
            None if has_subcommands(command) => return None,
            None => positions += 1,
        }
    }
    Some((command, positions, awaited))
}

fn has_subcommands(command: &Command) -> bool {
    command.get_subcommands().next().is_some()
}

fn names_of(command: &Command) -> Vec<String> {
    let visible = command.get_subcommands().filter(|sub| !sub.is_hide_set());
    let mut names: Vec<String> = visible.map(|sub| sub.get_name().to_owned()).collect();
    if !names.is_empty() {
        names.push("help".to_owned());
    }
    names
}

/// The option that a word such as `-o` or `--output` names, of a command or of all commands.
fn option<'a>(program: &'a Command, command: &'a Command, word: &str) -> Option<&'a Arg> {
    let all = command.get_opts().chain(program.get_opts());
    let is_named = |option: &&Arg| match word.strip_prefix("--") {
        Some(long) => option.get_long() == Some(long),
        None => {
            let short = option.get_short().map(|short| format!("-{short}"));
            short.as_deref() == Some(word)
        }
    };
    all.into_iter().find(is_named)
}

fn takes_value(option: &Arg) -> bool {
    option.get_action().takes_values()
}

fn options(program: &Command, command: &Command) -> Vec<String> {
    let all = command.get_arguments().chain(program.get_arguments());
    let long = all
        .filter(|option| !option.is_hide_set())
        .filter_map(Arg::get_long);
    long.chain(["help"])
        .map(|long| format!("--{long}"))
        .collect()
}

/// The argument at a position; the last one if it takes any number of values.
fn argument(command: &Command, position: usize) -> Option<&Arg> {
    let all: Vec<&Arg> = command.get_positionals().collect();
    let last = all.last().copied();
    let is_list = |argument: &&Arg| matches!(argument.get_action(), clap::ArgAction::Append);
    all.get(position).copied().or(last.filter(is_list))
}

fn values(argument: &Arg) -> Vec<String> {
    let values = argument.get_possible_values();
    values
        .iter()
        .map(|value| value.get_name().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args;

    fn known() -> KnownNames {
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        KnownNames {
            workers: texts(&["syn:0", "syn:1", "other:0"]),
            models: texts(&["syn", "other"]),
            jobs: texts(&["17", "18"]),
        }
    }

    #[track_caller]
    fn assert_completes(before: &str, start: usize, expected: &[&str]) {
        let (at, found) = complete(&args::definition(), before, known);
        assert_eq!(
            (at, found.as_slice()),
            (start, texts(expected).as_slice()),
            "{before:?}"
        );
    }

    fn texts(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn the_first_word_is_a_command() {
        assert_completes("sta", 0, &["start", "status"]);
        assert_completes("ex", 0, &["exit"]);
        assert_completes("qu", 0, &["quarantine", "quit"]);
        assert_completes("imagepool sta", 10, &["start", "status"]);
        assert_completes("help pl", 5, &["plan"]);
        assert_completes("models f", 7, &["fetch"]);
    }

    #[test]
    fn names_follow_the_commands_that_take_them() {
        assert_completes("stop sy", 5, &["syn", "syn:0", "syn:1"]);
        assert_completes("stop syn:0 o", 11, &["other", "other:0"]);
        assert_completes("pin ", 4, &["other", "syn"]);
        assert_completes("pin syn ", 8, &[]);
        assert_completes("why 1", 4, &["17", "18"]);
        assert_completes("generate a -m o", 14, &["other"]);
        assert_completes("models show s", 12, &["syn"]);
        assert_completes("update s", 7, &["syn"]);
        let names = |line| complete_names(&args::definition(), line, known);
        assert_eq!(
            names("imagepool stop sy"),
            texts(&["syn", "syn:0", "syn:1"])
        );
        assert!(names("imagepool sta").is_empty() && names("imagepool stop --").is_empty());
    }

    #[test]
    fn options_and_their_values_are_completed() {
        assert_completes("generate a --st", 11, &["--steps"]);
        assert_completes("status --js", 7, &["--json"]);
        assert_completes("generate a --format w", 20, &["webp"]);
        assert_completes("generate a --format p", 20, &["png"]);
        assert_completes("nothing such", 8, &[]);
    }

    #[test]
    fn the_daemon_is_asked_only_for_names() {
        let asked = || panic!("no name is wanted");
        complete(&args::definition(), "sta", asked);
        complete(&args::definition(), "stop --", asked);
        complete(&args::definition(), "generate a --format ", asked);
    }
}
