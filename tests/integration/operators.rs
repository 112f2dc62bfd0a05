//! `status`, `stop` and `shutdown`: what they print, and the codes they end with.

use ipc_protocol::client::Update;
use ipc_protocol::request::ImageRequest;
use ipc_protocol::status::{WorkerState, WorkerStatus};
use serde_json::Value;
use tests::daemon::TestDaemon;
use tests::program::ProgramOutput;
use tests::sandbox::Sandbox;

/// A model that loads in no time.
const QUICK: &str = "default_model = \"syn\"\n[models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 1, load_ms = 1, weights_mb = 1 }\n";

#[test]
fn status_as_json_has_every_part_and_sums_that_hold() {
    let daemon = TestDaemon::start(QUICK);
    daemon
        .imagepool(&["generate", "a", "-o", "a.png"])
        .succeeded();
    daemon
        .stderr
        .wait_for("Worker ready", 2, tests::program::PATIENCE);
    let status = daemon
        .imagepool(&["status", "--json"])
        .succeeded()
        .json()
        .remove(0);
    for part in [
        "supervisor",
        "memory",
        "workers",
        "models",
        "queue",
        "counters",
    ] {
        assert!(status.get(part).is_some(), "{part} is missing in {status}");
    }
    assert_eq!(status["supervisor"]["pid"], daemon.pid());
    assert_eq!(status["supervisor"]["state"], "serving");
    let number = |value: &Value| value.as_u64().expect("a whole number");
    let workers = status["workers"].as_array().expect("a list");
    let promised: u64 = workers
        .iter()
        .map(|worker| number(&worker["reserved_mb"]["host"]))
        .sum();
    assert_eq!(number(&status["memory"][0]["reserved_mb"]), promised);
    assert_eq!(number(&status["counters"]["spawns"]), 2);
    let named: Vec<_> = workers
        .iter()
        .map(|worker| worker["name"].clone())
        .collect();
    assert_eq!(named, ["syn:0", "syn:1"]);
    assert!(
        workers
            .iter()
            .all(|worker| worker["state"] == "RUNNING" && worker["job"].is_null())
    );
}

#[test]
fn status_in_lines_is_supervisorctls() {
    let daemon = TestDaemon::start(QUICK);
    let lines =
        |output: tests::program::ProgramOutput| String::from_utf8(output.stdout).expect("text");
    let before = lines(daemon.imagepool(&["status"]).succeeded());
    assert!(
        before
            .lines()
            .any(|line| line.starts_with("syn:0 ") && line.contains("STOPPED   Not started")),
        "{before}"
    );
    daemon
        .imagepool(&["generate", "a", "-o", "a.png"])
        .succeeded();
    let after = lines(daemon.imagepool(&["status"]).succeeded());
    assert!(
        after
            .lines()
            .any(|line| line.starts_with("syn:0 ") && line.contains("RUNNING   pid ")),
        "{after}"
    );
}

#[test]
fn status_of_something_that_does_not_run_is_3_and_of_nothing_known_4() {
    let daemon = TestDaemon::start(QUICK);
    daemon.imagepool(&["status"]).ended_with(0);
    daemon.imagepool(&["status", "syn"]).ended_with(3);
    daemon.imagepool(&["status", "nobody"]).ended_with(4);
    daemon
        .imagepool(&["generate", "a", "-o", "a.png"])
        .succeeded();
    daemon
        .stderr
        .wait_for("Worker ready", 2, tests::program::PATIENCE);
    daemon.imagepool(&["status", "syn"]).ended_with(0);
    daemon.imagepool(&["status", "syn:0"]).ended_with(0);
}

#[test]
fn a_model_runs_when_one_of_its_workers_does() {
    let daemon = TestDaemon::start(&QUICK.replace("load_ms = 1,", "load_ms = 5000,"));
    daemon.imagepool(&["scale", "syn", "1"]).succeeded();
    let ready = |count| {
        let patience = tests::program::PATIENCE;
        daemon.stderr.wait_for("Worker ready", count, patience);
    };
    ready(1);
    daemon.imagepool(&["scale", "syn", "2"]).succeeded();
    daemon.imagepool(&["status", "syn"]).ended_with(0);
    daemon.imagepool(&["status", "syn:1"]).ended_with(3);
    ready(2);
    daemon.imagepool(&["status", "syn:1"]).ended_with(0);
}

#[test]
fn scaling_down_counts_the_workers_that_draw() {
    let daemon = TestDaemon::start(&QUICK.replace("step_ms = 1,", "step_ms = 1000,"));
    daemon.imagepool(&["scale", "syn", "3"]).succeeded();
    let patience = tests::program::PATIENCE;
    daemon.stderr.wait_for("Worker ready", 3, patience);
    let mut client = daemon.client();
    let request = ImageRequest::new("a");
    let mut drawing = client.generate(&request).expect("accepted");
    let step = drawing.find(|update| matches!(update, Ok(Update::Step { .. })));
    assert!(step.is_some(), "one of the three draws");
    daemon.imagepool(&["scale", "syn", "1"]).succeeded();
    let status = daemon.status();
    let running = |worker: &&WorkerStatus| worker.state == WorkerState::Running;
    let workers: Vec<_> = status.workers.iter().filter(running).collect();
    assert!(
        workers.len() == 1 && workers[0].job.is_some(),
        "{workers:?}"
    );
}

#[test]
fn stop_ends_the_workers_and_the_model_answers_stopped() {
    let daemon = TestDaemon::start(QUICK);
    daemon
        .imagepool(&["generate", "a", "-o", "a.png"])
        .succeeded();
    daemon
        .stderr
        .wait_for("Worker ready", 2, tests::program::PATIENCE);
    let output = daemon.imagepool(&["stop", "syn"]).succeeded();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("syn:0: stopped") && text.contains("syn:1: stopped"),
        "{text}"
    );
    assert!(daemon.sandbox.workers().is_empty());
    let memory = &daemon.status().memory[0];
    assert_eq!(memory.reserved_mb, 0);
    let refused = daemon
        .imagepool(&["generate", "a", "-o", "b.png"])
        .ended_with(75);
    assert!(refused.stderr.contains("stopped"), "{}", refused.stderr);
    let unknown = daemon.imagepool(&["stop", "nobody"]).ended_with(1);
    assert_eq!(
        String::from_utf8_lossy(&unknown.stdout),
        "nobody: ERROR (no such process)\n"
    );
}

#[test]
fn shutdown_is_reported_when_the_process_is_gone() {
    let mut daemon = TestDaemon::start(QUICK);
    daemon
        .imagepool(&["generate", "a", "-o", "a.png"])
        .succeeded();
    let output = daemon.imagepool(&["shutdown"]).succeeded();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Shut down\n");
    assert!(
        daemon.sandbox.servants().is_empty(),
        "{:?}",
        daemon.sandbox.servants()
    );
    assert_eq!(daemon.wait().code(), Some(0));
    let left = daemon.sandbox.census(&[daemon.pid()]);
    assert_eq!(left.runtime, ["lock".to_owned()].into());
}

#[test]
fn a_daemon_that_ends_at_once_still_says_that_it_will() {
    for _ in 0..5 {
        let daemon = TestDaemon::start(QUICK);
        daemon.imagepool(&["shutdown"]).succeeded();
    }
}

#[test]
fn shutdown_finishes_what_was_accepted() {
    let slow = QUICK.replace("step_ms = 1,", "step_ms = 100,");
    let daemon = TestDaemon::start(&slow);
    let begun = daemon.imagepool_begun(&["generate", "a", "--steps", "10", "-o", "a.png"]);
    daemon
        .stderr
        .wait_for("Worker ready", 1, tests::program::PATIENCE);
    daemon.imagepool(&["shutdown"]).succeeded();
    begun.output().succeeded();
}

#[test]
fn no_daemon_is_exit_7_for_every_verb_and_every_place_is_named() {
    let sandbox = Sandbox::new("");
    for verb in [&["status"][..], &["stop", "all"], &["shutdown"]] {
        let said = sandbox.imagepool(verb).ended_with(7).stderr;
        let ours = sandbox.socket().display().to_string();
        for place in [ours.as_str(), "/run/imagepool/pool.sock", "/tmp/imagepool-"] {
            assert!(said.contains(place), "{place} is missing in {said}");
        }
    }
    sandbox.imagepool(&["version"]).succeeded();
}

fn text(output: &ProgramOutput) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

#[test]
fn a_name_that_nothing_has_stops_no_other() {
    let daemon = TestDaemon::start(QUICK);
    let names = ["no such", "syn:*", "nobody", "nobody:*", "syn:x"];
    let started = daemon.imagepool(&[&["start"], &names[..]].concat());
    let lines = [
        "no such: ERROR (no such process)",
        "syn:0: started",
        "nobody: ERROR (no such process)",
        "nobody: ERROR (no such group)",
        "syn:x: ERROR (no such process)",
    ];
    assert_eq!(
        text(&started.ended_with(1)).lines().collect::<Vec<_>>(),
        lines
    );
    let status = daemon
        .imagepool(&["status", "syn:*", "nobody"])
        .ended_with(4);
    let status = text(&status);
    assert!(
        status.contains("nobody: ERROR (no such process)\n"),
        "{status}"
    );
    assert!(
        status.contains("syn:0 ") && status.contains("RUNNING"),
        "{status}"
    );
    assert!(!status.contains("pocket-flux"), "{status}");
    daemon.imagepool(&["status", "syn:*"]).succeeded();
    let pid = text(&daemon.imagepool(&["pid", "syn:*"]).succeeded());
    assert_eq!(pid, format!("{}\n", daemon.worker_pids()[0]));
    daemon.imagepool(&["restart", "syn:*"]).succeeded();
    let stopped = daemon.imagepool(&["stop", "syn:*"]).succeeded();
    assert_eq!(text(&stopped), "syn:0: stopped\n");
}

#[test]
fn every_verb_answers_as_json_where_that_is_wanted() {
    let daemon = TestDaemon::start(QUICK);
    let told = |arguments: &[&str], code: i32| {
        let output = daemon.imagepool(&[arguments, &["--json"]].concat());
        output.ended_with(code).json()
    };
    for (verb, name) in [
        ("start", "syn"),
        ("restart", "syn:0"),
        ("pin", "syn"),
        ("unpin", "syn"),
    ] {
        let lines = told(&[verb, name], 0);
        for line in &lines {
            assert_eq!(line["verb"], verb);
            assert!(
                line["name"]
                    .as_str()
                    .is_some_and(|name| name.starts_with("syn"))
            );
            assert!(
                line["error"].is_null() && line["message"].is_string(),
                "{line}"
            );
        }
        assert!(!lines.is_empty(), "{verb}");
    }
    let unknown = &told(&["stop", "nobody"], 1)[0]["error"];
    assert_eq!(unknown["message"], "no such process");
    assert_eq!(unknown["kind"], "no_such_name");
    assert_eq!(told(&["scale", "syn", "1"], 0)[0]["message"], "scaled to 1");
    assert_eq!(told(&["pid"], 0)[0]["pid"], daemon.pid());
    assert_eq!(told(&["pid", "syn"], 0)[0]["name"], "syn:0");
    assert_eq!(told(&["version"], 0)[0]["supervisor"]["pid"], daemon.pid());
    assert_eq!(told(&["quarantine"], 0), [Value::Array(Vec::new())]);
    assert_eq!(told(&["quarantine", "drop"], 0)[0]["message"], "0 dropped");
    assert_eq!(told(&["plan", "syn"], 0)[0]["possible"], true);
    let status = told(&["status", "syn"], 0).remove(0);
    assert_eq!(status["models"].as_array().map(Vec::len), Some(1));
    assert!(told(&["drain"], 0)[0]["message"].is_string());
    assert_eq!(told(&["shutdown"], 0)[0]["message"], "Shut down");
}

#[test]
fn a_pool_that_drains_shows_it_in_its_status() {
    let daemon = TestDaemon::start(QUICK);
    assert!(!text(&daemon.imagepool(&["status"]).succeeded()).contains("DRAINING"));
    daemon.imagepool(&["drain"]).succeeded();
    let status = text(&daemon.imagepool(&["status"]).succeeded());
    let line = status.lines().next().unwrap_or_default();
    assert!(line.starts_with("supervisor "), "{status}");
    assert!(line.contains("DRAINING  for 0:00:"), "{status}");
    assert!(line.contains("0 jobs to finish"), "{status}");
    assert!(line.contains("`imagepool drain --undo`"), "{status}");
    let told = text(&daemon.imagepool(&["drain"]).succeeded());
    assert!(told.contains("`imagepool drain --undo` accepts"), "{told}");
    let help = text(&daemon.imagepool(&["help", "drain"]).succeeded());
    assert!(help.contains("`drain --undo` accepts"), "{help}");
    let json = daemon.imagepool(&["status", "--json"]).succeeded().json();
    assert!(json[0]["supervisor"]["draining_s"].is_f64(), "{}", json[0]);
}

#[test]
fn a_model_scaled_to_zero_is_not_said_to_be_stopped() {
    let daemon = TestDaemon::start(QUICK);
    daemon.imagepool(&["start", "syn"]).succeeded();
    daemon.imagepool(&["scale", "syn", "0"]).succeeded();
    let patience = tests::program::PATIENCE;
    daemon.stderr.wait_for("Worker exited", 1, patience);
    let status = text(&daemon.imagepool(&["status", "syn"]).ended_with(3));
    assert!(status.contains("EXITED    Scaled down"), "{status}");
    daemon
        .imagepool(&["generate", "a", "-o", "a.png"])
        .succeeded();
}

#[test]
fn a_plan_has_one_unit_and_ends_with_1_where_nothing_fits() {
    let limits = "[memory]\nhost_limit_mb = 40\n";
    let sections = QUICK.split_once('\n').expect("two parts");
    let settings = format!("{}\n{limits}{}", sections.0, sections.1);
    let daemon = TestDaemon::start(&settings);
    let fits = text(&daemon.imagepool(&["plan", "syn"]).succeeded());
    assert!(fits.contains(" MB free: fits"), "{fits}");
    let never = daemon.imagepool(&["plan", "pocket-flux"]).ended_with(1);
    let never = text(&never);
    assert!(never.contains("never fits"), "{never}");
    assert!(
        !fits.contains("iB") && !never.contains("iB"),
        "{fits}{never}"
    );
    for (field, arguments) in [
        ("size", ["plan", "syn", "--size", "17x33"]),
        ("model", ["plan", "nobody", "--size", "64x64"]),
    ] {
        let said = daemon.imagepool(&arguments).ended_with(2).stderr;
        assert!(said.starts_with(&format!("imagepool: {field}: ")), "{said}");
    }
}

#[test]
fn a_private_pool_is_not_asked_for_what_only_a_daemon_has() {
    let sandbox = Sandbox::new("");
    let said = sandbox
        .imagepool(&["status", "--private"])
        .ended_with(2)
        .stderr;
    assert!(
        said.starts_with("imagepool: --private works with"),
        "{said}"
    );
}

#[test]
fn a_second_daemon_in_the_same_folder_is_refused_and_the_first_serves_on() {
    let daemon = TestDaemon::start(QUICK);
    let mut second = TestDaemon::start_unready(daemon.sandbox.clone());
    assert_eq!(second.wait().code(), Some(1));
    second
        .stderr
        .wait_for("serves in", 1, tests::program::PATIENCE);
    daemon
        .imagepool(&["generate", "a", "-o", "a.png"])
        .succeeded();
    std::mem::forget(second); // Its end would look for the first one's workers.
}
