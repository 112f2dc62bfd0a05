//! `tail`, `maintail`, `clear`, `signal` and `events`: what they print, and the codes they end with.

use std::fs;
use std::sync::mpsc;

use ipc_protocol::ids::{ModelKey, WorkerName};
use ipc_protocol::log::{LogRequest, LogSource};
use ipc_protocol::status::WorkerState;
use ipc_protocol::untrusted::is_obeyed;
use nix::sys::signal::Signal;
use tests::daemon::TestDaemon;
use tests::job::request;
use tests::misbehaviours::speeches;
use tests::program::{PATIENCE, ProgramOutput};
use tests::sandbox::Sandbox;
use tests::wait;

const SETTINGS: &str = "default_model = \"syn\"\n[pool]\ncold_start_workers = 1\n\
    [models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 1, load_ms = 1, weights_mb = 1 }\n";
/// How the words of the hostile worker are shown.
const SHOWN: &str = "words\\u001b[2J";

fn text(output: &ProgramOutput) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// A daemon with a worker that has written [`SHOWN`] and lives on.
fn talkative() -> TestDaemon {
    let settings = format!("[pool]\ncold_start_workers = 1\n{}", speeches());
    let daemon = TestDaemon::start_in(Sandbox::with_hostile_worker(&settings));
    daemon.imagepool(&["start", "says-stderr"]);
    daemon.stderr.wait_for(SHOWN, 1, PATIENCE);
    daemon
}

#[test]
fn tail_prints_the_last_bytes_of_a_worker_and_outlives_it() {
    let daemon = talkative();
    let alive = text(&daemon.imagepool(&["tail", "says-stderr:0"]).succeeded());
    assert!(alive.contains(SHOWN), "{alive}");
    // The worker dies, and its words are still there.
    daemon.imagepool(&["stop", "says-stderr"]).succeeded();
    let whole = text(&daemon.imagepool(&["tail", "says-stderr:0"]).succeeded());
    assert!(whole.contains(SHOWN), "{whole}");
    assert!(!whole.contains(|c| c != '\n' && is_obeyed(c)), "{whole:?}");
    let part = text(
        &daemon
            .imagepool(&["tail", "-5", "says-stderr:0"])
            .succeeded(),
    );
    assert!(part.len() == 5 && whole.ends_with(&part), "{part:?}");
    let by_model = text(&daemon.imagepool(&["tail", "says-stderr"]).succeeded());
    assert_eq!(by_model, whole);
    let json = daemon.imagepool(&["tail", "says-stderr:0", "--json"]);
    let json = json.succeeded().json();
    assert_eq!(json[0]["name"], "says-stderr:0");
    assert_eq!(json[0]["line"].as_str(), whole.lines().next());
    let cleared = daemon.imagepool(&["clear", "says-stderr:0"]).succeeded();
    assert_eq!(text(&cleared), "says-stderr:0: cleared\n");
    let empty = daemon.imagepool(&["tail", "says-stderr:0"]).succeeded();
    assert_eq!(text(&empty), "");
    let all = text(&daemon.imagepool(&["clear", "all"]).succeeded());
    assert!(all.contains("says-stderr:0: cleared\n"), "{all}");
}

#[test]
fn an_unknown_name_is_answered_in_supervisorctls_words() {
    let daemon = TestDaemon::start(SETTINGS);
    for (arguments, said, code) in [
        (
            &["tail", "nobody"][..],
            "nobody: ERROR (no such process name)\n",
            1,
        ),
        (
            &["tail", "syn:*"],
            "syn:*: ERROR (no such process name)\n",
            1,
        ),
        (
            &["clear", "nobody:0"],
            "nobody:0: ERROR (no such process)\n",
            1,
        ),
        (&["clear", "nobody:*"], "nobody: ERROR (no such group)\n", 1),
        (&["clear", "syn:99"], "syn:99: ERROR (no such process)\n", 1),
        (
            &["tail", "syn:99"],
            "syn:99: ERROR (no such process name)\n",
            1,
        ),
        (
            &["signal", "HUP", "syn:99"],
            "syn:99: ERROR (no such process)\n",
            1,
        ),
        (&["start", "syn:99"], "syn:99: ERROR (no such process)\n", 1),
        (&["clear", "syn:3"], "syn:3: cleared\n", 0),
        (&["clear", "syn"], "syn:0: cleared\n", 0),
        (&["tail", "syn"], "", 0),
        (
            &["signal", "HUP", "nobody:0"],
            "nobody:0: ERROR (no such process)\n",
            1,
        ),
        (
            &["signal", "HUP", "syn:0"],
            "syn:0: ERROR (not running)\n",
            1,
        ),
        (&["signal", "HUP", "syn"], "syn:0: ERROR (not running)\n", 1),
        (&["signal", "HUP", "all"], "", 0),
        (
            &["signal", "NOPE", "syn:0"],
            "syn:0: ERROR (bad signal name)\n",
            1,
        ),
    ] {
        let output = daemon.imagepool(arguments);
        assert_eq!(
            (text(&output).as_str(), output.code),
            (said, code),
            "{arguments:?}"
        );
    }
    for usage in [
        &["tail"][..],
        &["tail", "a", "b"],
        &["tail", "-x1", "syn"],
        &["maintail", "syn"],
    ] {
        daemon.imagepool(usage).ended_with(2);
    }
}

#[test]
fn a_follower_gets_the_lines_of_the_next_worker_too() {
    let daemon = talkative();
    let mut client = daemon.client();
    let request = LogRequest {
        source: LogSource::Worker(WorkerName {
            model: ModelKey::new("says-stderr").expect("a plain key"),
            slot: 0,
        }),
        bytes: 0,
        follow: true,
    };
    let (sender, found) = mpsc::channel();
    std::thread::spawn(move || {
        let parts = client.tail(request).expect("an operator may");
        let mut lines = parts.map_while(Result::ok).flat_map(|part| part.lines);
        sender.send(lines.find(|line| line.contains(SHOWN)))
    });
    daemon.imagepool(&["restart", "says-stderr:0"]);
    let line = found.recv_timeout(PATIENCE).expect("it follows");
    assert!(line.is_some(), "the listing ended");
}

/// Whether a process handles SIGINT.
fn handles_interrupt(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask & (1 << (Signal::SIGINT as u32 - 1)) != 0)
}

#[test]
fn what_is_followed_ends_with_0_at_ctrl_c() {
    let daemon = TestDaemon::start(SETTINGS);
    for arguments in [
        &["tail", "-f", "syn"][..],
        &["maintail", "-f"],
        &["events", "-f"],
    ] {
        let mut call = daemon.imagepool_begun(arguments);
        assert!(wait::until(PATIENCE, || handles_interrupt(call.pid())));
        call.signal(Signal::SIGINT);
        call.output().succeeded();
    }
}

#[test]
fn maintail_prints_the_daemons_own_log() {
    let daemon = TestDaemon::start(SETTINGS);
    daemon.draw(&request("syn", 1, 1)).expect("a good request");
    let log = text(&daemon.imagepool(&["maintail", "-100000"]).succeeded());
    for line in ["Serving.", "Spawned worker 1 model=syn", "Worker ready"] {
        assert!(log.contains(line), "{line}: {log}");
    }
    assert_eq!(
        text(&daemon.imagepool(&["maintail", "-7"]).succeeded()).len(),
        7
    );
}

#[test]
fn a_signal_reaches_a_worker_and_its_death_is_not_the_jobs_fault() {
    let daemon = TestDaemon::start(SETTINGS);
    daemon.imagepool(&["start", "syn"]).succeeded();
    let stopped = daemon
        .imagepool(&["signal", "SIGUSR1", "nobody", "syn:0"])
        .ended_with(1);
    assert_eq!(
        text(&stopped),
        "nobody: ERROR (no such process)\nsyn:0: signalled\n"
    );
    // SIGUSR1 kills a process that does not expect it; the pool replaces the worker.
    daemon.stderr.wait_for("Spawned worker", 2, PATIENCE);
    let killed = daemon.imagepool(&["signal", "kill", "syn", "--json"]);
    let answer = killed.json().remove(0);
    if answer["error"].is_null() {
        assert_eq!(answer["name"], "syn:0");
        assert_eq!(answer["message"], "signalled");
    }
    let running = || {
        let status = daemon.status();
        status
            .workers
            .iter()
            .any(|worker| worker.state == WorkerState::Running)
    };
    assert!(wait::until(PATIENCE, running));
    daemon
        .draw(&request("syn", 3, 1))
        .expect("nothing is held against it");
}

#[test]
fn events_have_the_life_of_a_worker_and_of_a_job_for_people_and_programs() {
    let daemon = TestDaemon::start(SETTINGS);
    daemon.draw(&request("syn", 1, 1)).expect("a good request");
    let events = daemon.imagepool(&["events", "--json"]).succeeded().json();
    let names: Vec<&str> = events
        .iter()
        .filter_map(|event| event["event"].as_str())
        .collect();
    assert_eq!(names, ["job_accepted", "spawned", "ready", "job_ended"]);
    let times: Vec<f64> = events
        .iter()
        .filter_map(|event| event["t_ms"].as_f64())
        .collect();
    assert!(times.len() == 4 && times.is_sorted(), "{times:?}");
    let spawned = &events[1];
    assert_eq!(spawned["worker"], "syn:0");
    assert_eq!(spawned["model"], "syn");
    assert!(spawned["pid"].is_u64() && spawned["generation"].is_u64());
    assert_eq!(events[3]["outcome"], "finished");
    let lines = text(&daemon.imagepool(&["events"]).succeeded());
    let line = lines.lines().nth(1).expect("four lines");
    assert!(
        line.contains("  spawned") && line.contains(" worker=syn:0 model=syn "),
        "{line}"
    );
}
