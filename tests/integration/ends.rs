//! Every end of a worker has the same name in the obituary, the status, the log and the metrics.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use ipc_protocol::ids::Generation;
use ipc_protocol::obituary::Obituary;
use ipc_protocol::status::WorkerState;
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::daemon::TestDaemon;
use tests::job::request;
use tests::misbehaviours::{ONCE_MB, ends};
use tests::processes::signal;
use tests::program::{Call, ProgramOutput};
use tests::sandbox::Sandbox;
use tests::{turn, wait};

/// One worker for each model: its job waits for the replacement.
const ONE_WORKER: &str = "[pool]\ncold_start_workers = 1\nmax_workers_per_model = 1\n";
/// The longest end: no greeting for 30 s, on a busy machine.
const LONGEST: Duration = Duration::from_secs(150);

/// An end of the table: the model's name after `ends-`, the class, the exit code or the signal with its sender, and the
/// state at the end.
struct End {
    name: &'static str,
    class: &'static str,
    code: Option<i64>,
    signal: Option<(i64, &'static str)>,
    state: &'static str,
}

const fn code(name: &'static str, code: i64, class: &'static str, state: &'static str) -> End {
    End {
        name,
        class,
        code: Some(code),
        signal: None,
        state,
    }
}

const fn by_signal(
    name: &'static str,
    number: i64,
    sender: &'static str,
    class: &'static str,
    state: &'static str,
) -> End {
    End {
        name,
        class,
        code: None,
        signal: Some((number, sender)),
        state,
    }
}

/// An end of a worker that the daemon stops: how it exits then is its own affair.
const fn stopped(name: &'static str, class: &'static str) -> End {
    End {
        name,
        class,
        code: None,
        signal: None,
        state: "stopping",
    }
}

/// The ends that one daemon survives side by side.
const TABLE: [End; 19] = [
    code("exit-66-loading", 66, "unusable_weights", "starting"),
    code("exit-75-loading", 75, "out_of_memory_loading", "starting"),
    code("exit-78-loading", 78, "bad_configuration", "starting"),
    code("exit-83-loading", 83, "protocol_mismatch", "starting"),
    code("exit-0-busy", 0, "left", "busy"),
    code("exit-7-busy", 7, "unknown_code", "busy"),
    code("exit-80-busy", 80, "out_of_memory_running", "busy"),
    code("exit-84-busy", 84, "supervisor_gone", "busy"),
    code("exit-85-busy", 85, "panicked", "busy"),
    by_signal("signal-6-busy", 6, "unknown", "crashed", "busy"),
    by_signal("signal-7-busy", 7, "unknown", "crashed", "busy"),
    by_signal("signal-11-busy", 11, "unknown", "crashed", "busy"),
    by_signal("allocation-busy", 6, "itself", "allocation_failed", "busy"),
    stopped("garbage-busy", "protocol"),
    stopped("silent-busy", "silent"),
    stopped("beating-busy", "stuck"),
    stopped("no-greeting", "no_hello"),
    stopped("deaf-busy", "ignored_cancel"),
    by_signal("work-busy", 9, "other", "killed", "busy"),
];

impl End {
    fn model(&self) -> String {
        format!("ends-{}", self.name)
    }

    /// Asks for a picture, which the end will prevent.
    fn begin(&self, daemon: &TestDaemon) -> Call {
        let model = self.model();
        let ask = ["generate", "a prompt that is not kept", "-m", &model];
        // The job is cancelled at its time limit, before its worker counts as hanging.
        let limited = match self.name {
            "deaf-busy" => &["--timeout", "3"][..],
            _ => &[],
        };
        daemon.imagepool_begun(&[&ask[..], limited].concat())
    }

    /// Waits until the worker has died, and checks every place that names the end.
    fn check(&self, daemon: &TestDaemon) {
        let (model, class) = (self.model(), self.class);
        let worker = format!("worker={model}:0");
        let died = || {
            let lines = daemon.stderr.with("Worker died");
            lines.into_iter().find(|line| line.contains(&worker))
        };
        assert!(wait::until(LONGEST, || died().is_some()), "{model} lives");
        let line = died().expect("it was there");
        assert!(line.contains(&format!("reason={class} ")), "{line}");
        let series = format!("worker_exits_total{{model=\"{model}\",reason=\"{class}\"}}");
        let counted = || daemon.http().get("/metrics").text().contains(&series);
        assert!(wait::until(LONGEST, counted), "{series}");
        let output = daemon
            .imagepool(&["last-crash", &model, "--json"])
            .succeeded();
        self.check_json(&output.json_list()[0]);
        let output = daemon.imagepool(&["last-crash", &model]).succeeded();
        self.check_text(&text(&output));
        let all = daemon.imagepool(&["last-crash", &format!("{model}:0"), "--all", "--json"]);
        let all = all.succeeded().json_list();
        assert!(all.iter().all(|one| one["class"] == class), "{all:?}");
    }

    fn check_json(&self, obituary: &Value) {
        let model = self.model();
        assert_eq!(obituary["class"], self.class, "{obituary}");
        assert_eq!(obituary["worker"], format!("{model}:0"), "{obituary}");
        let sent = obituary["signal"].as_i64().zip(obituary["sender"].as_str());
        if self.state == "stopping" {
            assert!(sent.is_none_or(|(_, sender)| sender == "us"), "{obituary}");
        } else {
            assert_eq!(obituary["exit_code"].as_i64(), self.code, "{obituary}");
            assert_eq!(sent, self.signal, "{obituary}");
        }
        assert_eq!(obituary["state"], self.state, "{obituary}");
        assert!(obituary["pid"].as_u64().is_some(), "{obituary}");
        assert!(
            obituary["reserved_mb"]["host"].as_u64() > Some(0),
            "{obituary}"
        );
        // A job that was cancelled is not the worker's any more.
        if self.name.ends_with("busy") && self.class != "ignored_cancel" {
            assert!(obituary["job"].as_u64().is_some(), "{obituary}");
            assert!(obituary["attempt"].as_u64() > Some(0), "{obituary}");
        }
        let last = format!("the \\u001b[31mlast words\\u001b[0m of {}", self.name);
        let lines = obituary["lines"].as_array().expect("a list");
        assert!(lines.iter().any(|line| *line == last), "{obituary}");
        assert!(
            !obituary.to_string().contains("a prompt that is not kept"),
            "{obituary}"
        );
    }

    fn check_text(&self, text: &str) {
        assert!(text.contains(self.class), "{text}");
        assert!(
            text.contains(&format!("last words\\u001b[0m of {}", self.name)),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "{text}");
        if let Some(code) = self.code {
            assert!(text.contains(&format!("exit code {code}")), "{text}");
        }
        if let Some((number, _)) = self.signal {
            assert!(
                text.contains(&format!("signal {number}, sent by")),
                "{text}"
            );
        }
    }
}

fn text(output: &ProgramOutput) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The line of a model that is not served after its worker died, if it is at rest.
fn check_status(daemon: &TestDaemon, model: &str, class: &str) {
    let status = daemon.status();
    let found = status
        .models
        .iter()
        .find(|found| found.key.as_str() == model);
    let rest = found.and_then(|found| found.at_rest.as_ref());
    if let Some((WorkerState::Backoff | WorkerState::Fatal, why)) = rest {
        let hint = format!("({class}, try \"last-crash {model}:0\")");
        assert!(why.ends_with(&hint), "{model}: {why}");
    }
}

#[test]
fn every_end_has_the_same_name_in_the_obituary_the_status_and_the_log() {
    let _turn = turn::take();
    let settings = format!("{ONE_WORKER}{}", ends(1));
    let daemon = TestDaemon::start_in(Sandbox::with_hostile_worker(&settings));
    let none = daemon.imagepool(&["last-crash"]).ended_with(1);
    assert_eq!(text(&none), "No worker has crashed\n");
    let none = daemon.imagepool(&["last-crash", "--json"]).ended_with(1);
    assert!(none.json_list().is_empty(), "{none:?}");
    let calls: Vec<Call> = TABLE.iter().map(|end| end.begin(&daemon)).collect();
    let killed = || {
        let status = daemon.status();
        let mut workers = status.workers.into_iter();
        let worker = workers.find(|worker| worker.name == "ends-work-busy:0")?;
        worker.job.and(worker.pid)
    };
    assert!(
        wait::until(LONGEST, || killed().is_some()),
        "no worker works"
    );
    signal(killed().expect("it was there"), Signal::SIGKILL);
    for end in &TABLE {
        end.check(&daemon);
        check_status(&daemon, &end.model(), end.class);
    }
    let status = text(&daemon.imagepool(&["status", "ends-exit-78-loading"]));
    assert!(status.contains("bad_configuration"), "{status}");
    drop(calls);
    // They are written beside the loop, one after the other.
    let written = || {
        let files = files(&daemon).len();
        files
            >= daemon
                .imagepool(&["last-crash", "--all", "--json"])
                .json_list()
                .len()
    };
    assert!(wait::until(LONGEST, written), "{:?}", files(&daemon));
    let sandbox = daemon.kill(Duration::from_secs(5));
    survives(&sandbox);
}

/// The files of the obituaries that are complete.
fn files(daemon: &TestDaemon) -> Vec<fs::DirEntry> {
    let state = daemon.status().supervisor.state_dir.expect("it has one");
    let files = fs::read_dir(PathBuf::from(state).join("obituaries")).expect("there");
    let complete = |file: &fs::DirEntry| !file.file_name().to_string_lossy().starts_with('.');
    files.flatten().filter(complete).collect()
}

/// The obituaries are there after the daemon was killed, in files that only its user may read.
fn survives(sandbox: &std::sync::Arc<Sandbox>) {
    let daemon = TestDaemon::start_in(std::sync::Arc::clone(sandbox));
    for end in &TABLE {
        let output = daemon.imagepool(&["last-crash", &end.model(), "--json"]);
        end.check_json(&output.succeeded().json_list()[0]);
    }
    for file in files(&daemon) {
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&file.metadata().expect("there").permissions());
        assert_eq!(mode & 0o777, 0o600, "{file:?}");
    }
    let unknown = daemon.imagepool(&["last-crash", "ends-exit-66-loading:7"]);
    let unknown = unknown.ended_with(1);
    assert_eq!(
        text(&unknown),
        "No worker of ends-exit-66-loading:7 has crashed\n"
    );
}

#[test]
fn a_lost_device_a_missing_program_and_wanted_ends_are_told_apart() {
    let settings = format!("{ONE_WORKER}{}", ends(1));
    for (name, number, class) in [
        ("exit-81-busy", 81, "device_lost"),
        ("exit-82-busy", 82, "device_gone"),
    ] {
        let daemon = TestDaemon::start_in(Sandbox::with_hostile_worker(&settings));
        let end = code(name, number, class, "busy");
        let _call = end.begin(&daemon);
        end.check(&daemon);
    }
    let daemon = TestDaemon::start_in(Sandbox::with_hostile_worker(&settings));
    daemon.imagepool(&["start", "pocket-flux"]).succeeded();
    daemon.imagepool(&["stop", "pocket-flux"]).succeeded();
    let line = daemon.stderr.wait_for("Worker exited", 1, LONGEST);
    assert!(line.contains("reason=operator"), "{line}");
    daemon.imagepool(&["last-crash"]).ended_with(1);
    fs::remove_file(daemon.sandbox.binaries().worker()).expect("our own link");
    daemon.imagepool(&["start", "pocket-flux"]);
    let output = daemon.imagepool(&["last-crash", "--json"]).succeeded();
    let obituary = &output.json_list()[0];
    assert_eq!(obituary["class"], "not_started", "{obituary}");
    assert!(obituary["pid"].is_null(), "{obituary}");
    check_status(&daemon, "pocket-flux", "not_started");
}

/// A worker that waits, in a pool of its own.
fn idle() -> TestDaemon {
    let settings = format!(
        "{ONE_WORKER}[models.syn]\nfamily = \"synthetic\"\nparams = {{ step_ms = 1, load_ms = 1, weights_mb = 1 }}\n"
    );
    let daemon = TestDaemon::start(&settings);
    daemon.imagepool(&["start", "syn"]).succeeded();
    daemon
}

#[test]
fn an_obituary_names_the_sender_of_a_signal_as_far_as_the_kernel_does() {
    let by_operator = "sent by an operator with `imagepool signal`";
    let by_other = "sent by another process; the kernel does not report which";
    let unknown = "raised by itself, unless another process sent it";
    for (name, is_operators, class, sender, sentence) in [
        ("USR1", true, "killed_by_operator", "operator", by_operator),
        ("ABRT", true, "killed_by_operator", "operator", by_operator),
        ("KILL", true, "killed_by_operator", "operator", by_operator),
        ("USR1", false, "killed", "other", by_other),
        ("KILL", false, "killed", "other", by_other),
        ("FPE", false, "crashed", "unknown", unknown),
        ("ABRT", false, "crashed", "unknown", unknown),
    ] {
        let daemon = idle();
        let number: Signal = format!("SIG{name}").parse().expect("its name");
        match is_operators {
            true => drop(daemon.imagepool(&["signal", name, "syn"]).succeeded()),
            false => signal(daemon.worker_pids()[0], number),
        }
        let line = daemon.stderr.wait_for("Worker died", 1, LONGEST);
        assert!(line.contains(&format!("reason={class} ")), "{line}");
        let crash = daemon.imagepool(&["last-crash", "syn", "--json"]);
        let crash = crash.succeeded().json_list().remove(0);
        assert_eq!(crash["class"], class, "{crash}");
        assert_eq!(crash["sender"], sender, "{crash}");
        let expected = format!("ended by signal {} ({sentence})", number as i32);
        let told = crash["sentence"].as_str().expect("a sentence");
        assert!(told.contains(&expected), "{told}");
        let text = text(&daemon.imagepool(&["last-crash", "syn:0"]).succeeded());
        let is_named = text.contains("sent by an operator with");
        assert_eq!(is_named, is_operators, "{text}");
    }
}

#[test]
fn last_crash_reads_the_state_folder_without_a_daemon() {
    let daemon = idle();
    let nobody = daemon.imagepool(&["last-crash", "nobody"]).ended_with(4);
    assert!(nobody.stderr.contains("no such process"), "{nobody:?}");
    signal(daemon.worker_pids()[0], Signal::SIGKILL);
    daemon.stderr.wait_for("Worker died", 1, LONGEST);
    assert!(wait::until(LONGEST, || files(&daemon).len() == 1));
    let folder = daemon.status().supervisor.state_dir.expect("it has one");
    let asked = text(&daemon.imagepool(&["last-crash"]).succeeded());
    let sandbox = daemon.kill(LONGEST);
    let read = sandbox.imagepool(&["last-crash"]).succeeded();
    assert_eq!(text(&read), asked);
    let said = format!("no daemon runs: these are the obituaries in {folder}");
    assert!(read.stderr.contains(&said), "{}", read.stderr);
    let given = sandbox.imagepool(&["last-crash", "--state-dir", &folder, "--json"]);
    assert_eq!(given.succeeded().json_list()[0]["class"], "killed");
    let other = sandbox.imagepool(&["last-crash", "syn:7"]).ended_with(1);
    assert_eq!(text(&other), "No worker of syn:7 has crashed\n");
    let wrong = sandbox.imagepool(&["last-crash", "--state-dir", "/proc"]);
    assert!(wrong.ended_with(2).stderr.contains("/proc: "));
    let socket = ["--socket", "/nowhere/pool.sock", "last-crash"];
    sandbox.imagepool(&socket).ended_with(7);
}

/// The memory group of this process, if it is of version 1 and can be divided; else the reason is printed.
fn own_group() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = groups.lines().find_map(|line| line.split_once(":memory:"));
    let folder = path.map(|(_, path)| PathBuf::from(format!("/sys/fs/cgroup/memory{path}")));
    let folder = folder.filter(|folder| {
        let trial = folder.join(format!("imagepool-trial-{}", std::process::id()));
        fs::create_dir(&trial)
            .and_then(|()| fs::remove_dir(&trial))
            .is_ok()
    });
    if folder.is_none() {
        println!("not run: there is no memory hierarchy of version 1 that this user may divide");
    }
    folder
}

fn leak(daemon: &TestDaemon) -> Obituary {
    let mut request = request("ends-leak-busy", 2, 5);
    request.timeout_ms = Some(120_000);
    let picture = daemon.draw(&request).expect("the next worker draws it");
    assert_eq!(picture.report.attempts, 2);
    let target = ipc_protocol::messages::client::Target::All;
    let mut crashes = daemon.client().obituaries(target, 9).expect("it serves");
    assert_eq!(crashes.len(), 1, "{crashes:?}");
    crashes.remove(0)
}

#[test]
fn a_leaking_worker_meets_the_limit_of_its_own_group_and_ends_alone() {
    let Some(own) = own_group() else { return };
    let settings = format!(
        "[memory]\ncontrol_groups = \"on\"\n{ONE_WORKER}{}",
        ends(ONCE_MB)
    );
    let daemon = TestDaemon::start_in(Sandbox::with_hostile_worker(&settings));
    let supervisor = daemon.status().supervisor;
    assert_eq!(supervisor.control_groups, "v1", "{supervisor:?}");
    assert_eq!(supervisor.control_groups_detail, own.display().to_string());
    let obituary = leak(&daemon);
    assert_eq!(obituary.class, "memory_limit", "{obituary:?}");
    assert_eq!(
        (obituary.signal, obituary.sender.as_deref()),
        (Some(9), Some("kernel"))
    );
    assert_eq!(obituary.state, "busy");
    let alive = daemon.status();
    assert_eq!(alive.supervisor.pid, supervisor.pid);
    let generation = alive
        .workers
        .first()
        .map_or(Generation(0), |worker| worker.generation);
    let pid = alive
        .workers
        .first()
        .and_then(|worker| worker.pid)
        .expect("it drew");
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it lives");
    assert!(
        groups.contains(&format!("/worker-{}", supervisor.pid)),
        "{groups}"
    );
    assert!(groups.contains(&format!("-{generation}\n")), "{groups}");
    let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("it lives");
    assert_eq!(score.trim(), "500");
    daemon.imagepool(&["shutdown"]).succeeded();
    let prefix = format!("worker-{}-", supervisor.pid);
    let left = || {
        let groups = fs::read_dir(&own).expect("our own group").flatten();
        let names = groups.map(|group| group.file_name().to_string_lossy().into_owned());
        names
            .filter(|name| name.starts_with(&prefix))
            .collect::<Vec<_>>()
    };
    assert!(wait::until(LONGEST, || left().is_empty()), "{:?}", left());
}

#[test]
fn a_worker_that_the_kernel_kills_for_the_whole_group_is_not_blamed() {
    let Some(own) = own_group() else { return };
    let settings = format!(
        "[memory]\ncontrol_groups = \"off\"\n{ONE_WORKER}{}",
        ends(ONCE_MB)
    );
    let daemon = TestDaemon::start_in(Sandbox::with_hostile_worker(&settings));
    let group = own.join(format!("imagepool-test-{}", daemon.pid()));
    fs::create_dir(&group).expect("our own group");
    let write = |file: &str, text: String| fs::write(group.join(file), text).expect("our own");
    // Less than the worker may take of its own.
    write("memory.limit_in_bytes", (300u64 << 20).to_string());
    write("cgroup.procs", daemon.pid().to_string());
    let obituary = leak(&daemon);
    assert_eq!(obituary.class, "kernel_out_of_memory", "{obituary:?}");
    assert_eq!(
        (obituary.signal, obituary.sender.as_deref()),
        (Some(9), Some("kernel"))
    );
    drop(daemon);
    assert!(
        wait::until(LONGEST, || fs::remove_dir(&group).is_ok()),
        "{group:?} stays"
    );
}
