//! `--json`: stdout is JSON in the documented shape, for results, errors and empty lists.

use std::fs;

use serde_json::Value;
use tests::daemon::TestDaemon;
use tests::program::ProgramOutput;
use tests::sandbox::Sandbox;

const SETTINGS: &str = "default_model = \"syn\"\n[pool]\ncold_start_workers = 1\n\
    [models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 1, load_ms = 1, weights_mb = 1 }\n";

/// The shape of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// One object.
    Object,
    /// One array of objects, which may be empty.
    List,
    /// One object per line, at least one.
    Lines,
    /// The same, or none: lines of a log, events.
    Stream,
    /// One object `{"error":{"kind","field","message"}}`.
    Error,
}

/// An error as an object, or null.
fn is_error(error: &Value) -> bool {
    let text = |field: &str| error[field].as_str().is_some_and(|text| !text.is_empty());
    let keys: Vec<_> = error.as_object().into_iter().flatten().collect();
    let field = &error["field"];
    text("kind") && text("message") && (field.is_null() || field.is_string()) && keys.len() == 3
}

#[track_caller]
fn check(output: &ProgramOutput, shape: Shape, arguments: &[&str]) {
    let lines = output.json();
    let context = format!("{arguments:?}: {output:?}");
    match (shape, lines.as_slice()) {
        (Shape::Object, [Value::Object(one)]) => assert!(!one.contains_key("error"), "{context}"),
        (Shape::List, [Value::Array(list)]) => {
            assert!(list.iter().all(Value::is_object), "{context}");
        }
        (Shape::Lines, [_, ..]) | (Shape::Stream, _) => {
            for line in &lines {
                let error = line.get("error").unwrap_or(&Value::Null);
                assert!(line.is_object(), "{context}");
                assert!(error.is_null() || is_error(error), "{context}");
            }
        }
        (Shape::Error, [one]) => {
            assert!(is_error(&one["error"]), "{context}");
            assert_ne!(output.code, 0, "{context}");
            assert!(output.stderr.lines().count() > 0, "{context}");
        }
        (Shape::Object | Shape::List | Shape::Lines | Shape::Error, _) => panic!("{context}"),
    }
}

/// Every command in an answer of each kind that it has, in a daemon where nothing has happened yet.
const TABLE: &[(&[&str], Shape, i32)] = &[
    (&["status"], Shape::Object, 0),
    (&["ps", "syn"], Shape::Object, 3),
    (&["status", "nobody"], Shape::Object, 4),
    (&["jobs"], Shape::List, 0),
    (&["avail"], Shape::List, 0),
    (&["quarantine"], Shape::List, 0),
    (&["quarantine", "list"], Shape::List, 0),
    (&["quarantine", "release", "abc"], Shape::Lines, 4),
    (&["quarantine", "drop"], Shape::Lines, 0),
    (&["models"], Shape::List, 0),
    (&["models", "list"], Shape::List, 0),
    (&["models", "show", "syn"], Shape::Object, 0),
    (&["models", "show", "nobody"], Shape::Error, 2),
    (&["models", "verify", "syn"], Shape::Error, 2),
    (&["models", "verify", "nobody"], Shape::Error, 2),
    (&["models", "fetch", "nobody"], Shape::Error, 2),
    (&["models", "rm", "nobody"], Shape::Error, 2),
    (&["last-crash"], Shape::List, 1),
    (&["last-crash", "syn", "--all"], Shape::List, 1),
    (&["last-crash", "nobody"], Shape::Error, 4),
    (&["pid"], Shape::Lines, 0),
    (&["pid", "nobody"], Shape::Lines, 4),
    (&["pid", "all"], Shape::Lines, 0),
    (&["signal", "HUP", "all"], Shape::Lines, 0),
    (&["signal", "NOPE", "syn"], Shape::Lines, 1),
    (&["signal", "HUP", "nobody"], Shape::Lines, 1),
    (&["tail", "syn"], Shape::Stream, 0),
    (&["tail", "syn:99"], Shape::Lines, 1),
    (&["tail"], Shape::Error, 2),
    (&["tail", "-x", "syn"], Shape::Error, 2),
    (&["maintail"], Shape::Lines, 0),
    (&["maintail", "syn"], Shape::Error, 2),
    (&["clear", "syn"], Shape::Lines, 0),
    (&["clear", "syn:99"], Shape::Lines, 1),
    (&["clear", "all"], Shape::Lines, 0),
    (&["events"], Shape::Stream, 0),
    (&["top", "-n", "1"], Shape::Object, 0),
    (&["top", "-n", "0"], Shape::Error, 2),
    (&["reread"], Shape::Lines, 0),
    (&["update"], Shape::Lines, 0),
    (&["update", "nobody"], Shape::Lines, 1),
    (&["reload"], Shape::Lines, 0),
    (&["plan", "syn"], Shape::Object, 0),
    (&["plan", "nobody"], Shape::Error, 2),
    (&["version"], Shape::Object, 0),
    (&["wait", "999"], Shape::Error, 4),
    (&["why", "999"], Shape::Error, 4),
    (&["why", "x"], Shape::Error, 2),
    (&["cancel", "999"], Shape::Error, 4),
    (&["generate"], Shape::Error, 2),
    (&["generate", "a", "--steps", "x"], Shape::Error, 2),
    (&["generate", "a", "-m", "nobody"], Shape::Error, 2),
    (&["generate", "a", "-o", "a.png"], Shape::Lines, 0),
    (&["generate", "a", "--detach"], Shape::Lines, 0),
    (&["generate", "a", "-o", "no/a.png"], Shape::Error, 1),
    (&["generate", "a", "--as", "no such user"], Shape::Error, 2),
    (&["replay", "nowhere.png"], Shape::Error, 2),
    (&["start", "syn"], Shape::Lines, 0),
    (&["start", "nobody", "syn"], Shape::Lines, 1),
    (&["start"], Shape::Error, 2),
    (&["restart", "syn"], Shape::Lines, 0),
    (&["restart", "nobody"], Shape::Lines, 1),
    (&["scale", "syn", "1"], Shape::Lines, 0),
    (&["scale", "syn", "99"], Shape::Lines, 1),
    (&["scale", "syn", "x"], Shape::Error, 2),
    (&["scale", "nobody", "1"], Shape::Lines, 4),
    (&["pin", "syn"], Shape::Lines, 0),
    (&["pin", "nobody"], Shape::Lines, 4),
    (&["unpin", "syn"], Shape::Lines, 0),
    (&["unpin", "nobody"], Shape::Lines, 4),
    (&["evict", "nobody"], Shape::Lines, 4),
    (&["stop", "syn"], Shape::Lines, 0),
    (&["stop", "nobody:*"], Shape::Lines, 1),
    (&["yield", "1"], Shape::Lines, 0),
    (&["yield", "0"], Shape::Lines, 0),
    (&["yield", "x"], Shape::Error, 2),
    (&["drain"], Shape::Lines, 0),
    (&["drain", "--undo"], Shape::Lines, 0),
    (&["frobnicate"], Shape::Error, 2),
    (&["status", "--private"], Shape::Error, 2),
    (&["status", "--frobnicate"], Shape::Error, 2),
    (&["shutdown"], Shape::Lines, 0),
    (&["status"], Shape::Error, 7),
    (&["jobs"], Shape::Error, 7),
    (&["start", "syn"], Shape::Error, 7),
];

#[test]
fn stdout_is_json_in_the_documented_shape_for_results_errors_and_empty_lists() {
    let daemon = TestDaemon::start(SETTINGS);
    for (arguments, shape, code) in TABLE {
        let output = daemon.imagepool(&[arguments, &["--json"][..]].concat());
        assert_eq!(output.code, *code, "{arguments:?}: {output:?}");
        check(&output, *shape, arguments);
    }
}

#[test]
fn every_command_is_in_the_table() {
    let help = Sandbox::new("").imagepool(&["-h"]).succeeded().text();
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = commands.take_while(|line| !line.is_empty());
    let names = commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    // Help is text; the checks of `doctor` have a test of their own.
    let names = names.filter(|name| !["", "help", "doctor"].contains(name));
    for name in names {
        let is_there = TABLE.iter().any(|(arguments, ..)| arguments[0] == name);
        assert!(is_there, "{name} is missing");
    }
}

#[test]
fn a_picture_on_stdout_has_it_for_itself() {
    let daemon = TestDaemon::start(SETTINGS);
    let file = ["generate", "a", "--seed", "1", "-o", "a.png"];
    daemon.imagepool(&file).succeeded();
    let picture = fs::read(daemon.sandbox.pictures().join("a.png")).expect("it was written");
    for name in ["-", "/dev/stdout"] {
        let line = ["generate", "a", "--seed", "1", "-o", name, "--json"];
        let output = daemon.imagepool(&line).succeeded();
        assert!(output.stdout == picture, "{name}");
        let told: Value = serde_json::from_str(output.stderr.trim()).expect("one object");
        assert_eq!(told["seed"], 1);
    }
    for refused in [
        &["--steps", "x"][..],
        &["--steps", "99999"],
        &["--frobnicate"],
        &["-n", "2"],
    ] {
        let line = [&["generate", "a", "-o", "-", "--json"][..], refused].concat();
        let output = daemon.imagepool(&line).ended_with(2);
        assert!(output.stdout.is_empty(), "{output:?}");
        let last = output.stderr.lines().last().unwrap_or_default();
        let error: Value = serde_json::from_str(last).expect("the last line is JSON");
        assert!(is_error(&error["error"]), "{error}");
    }
    let job = daemon.imagepool(&["generate", "a", "--detach"]).succeeded();
    let wait = ["wait", job.text().trim(), "-o", "-", "--json"].map(str::to_owned);
    let wait: Vec<&str> = wait.iter().map(String::as_str).collect();
    let output = daemon.imagepool(&wait).succeeded();
    assert!(output.stdout.starts_with(b"\x89PNG") && output.stdout.ends_with(b"IEND\xaeB`\x82"));
}
