//! Detached jobs: drawn without their client, kept for a while, fetched by any command of their user.

use std::fs;
use std::os::unix::fs::chown;

use ipc_protocol::ids::JobId;
use nix::sys::signal::{self, Signal};
use nix::unistd::{Pid, geteuid};
use serde_json::Value;
use tests::daemon::TestDaemon;
use tests::detached_jobs::{detach, listed, until_listed, until_step};
use tests::job::request;
use tests::sandbox::Sandbox;

/// A user that owns nothing here, in the daemon's group.
const NOBODY: u32 = 65534;
/// One worker with steps of 20 ms.
const SLOW: &str = "default_model = \"syn\"\n[pool]\nmax_workers_per_model = 1\n\
    [models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 20, load_ms = 1, weights_mb = 1 }\n";

#[test]
fn a_detached_picture_has_the_bytes_of_an_attached_one_and_can_be_fetched_again() {
    let daemon = TestDaemon::start("");
    let folder = daemon.sandbox.pictures();
    let attached = ["generate", "a red circle", "--seed", "7", "-o", "a.png"];
    daemon.imagepool(&attached).succeeded();
    let jobs = detach(&daemon, &["--seed", "6", "-n", "2"]);
    assert_eq!(jobs, ["2", "3"]);
    let output = daemon
        .imagepool(&["wait", "3", "-o", "b.png", "--json"])
        .succeeded();
    let line = &output.json()[0];
    assert_eq!(
        (&line["job"], &line["index"], &line["seed"], &line["file"]),
        (&3.into(), &1.into(), &7.into(), &"b.png".into())
    );
    daemon.imagepool(&["wait", "3"]).succeeded();
    let read = |name: &str| fs::read(folder.join(name)).expect("it was written");
    assert!(read("b.png") == read("a.png"));
    assert!(read("imagepool-3.png") == read("a.png"));
    daemon
        .imagepool(&["wait", "3", "-o", "b.png"])
        .ended_with(2);
    daemon
        .imagepool(&["wait", "3", "-o", "b.jpeg", "-f"])
        .succeeded();
    assert!(read("b.jpeg").starts_with(&[0xff, 0xd8]));
    let kept = listed(&daemon, "3").expect("it is kept");
    assert_eq!(
        (&kept["state"], &kept["picture"], &kept["detached"]),
        (&"finished".into(), &"kept".into(), &true.into())
    );
    assert!(kept["kept_s"].as_f64().is_some_and(|left| left > 500.0));
}

#[test]
fn why_and_cancel_know_a_job_that_has_ended() {
    let daemon = TestDaemon::start(&SLOW.replace("[pool]\n", "[pool]\nresult_seconds = 300\n"));
    let text = |arguments: &[&str], code| daemon.imagepool(arguments).ended_with(code).text();
    let job = detach(&daemon, &["--steps", "1"]).remove(0);
    until_listed(&daemon, &job, "picture", "kept");
    let why = text(&["why", &job], 0);
    assert!(why.starts_with("finished at 20"), "{why}");
    let kept = format!("its picture is kept for 300 s: `imagepool wait {job}` writes it\n");
    let earlier = format!("its picture is kept for 299 s: `imagepool wait {job}` writes it\n");
    assert!(why.ends_with(&kept) || why.ends_with(&earlier), "{why}");
    let cancel = text(&["cancel", &job], 1);
    assert!(
        cancel.starts_with(&format!("{job}: ERROR (finished at 20")),
        "{cancel}"
    );
    let json = daemon.imagepool(&["cancel", &job, "--json"]).ended_with(1);
    let json = json.json().remove(0);
    assert_eq!(json["name"], job.as_str());
    assert!(json["error"]["message"].is_string(), "{json}");
    let long = detach(&daemon, &["--steps", "1000"]).remove(0);
    text(&["cancel", &long], 0);
    until_listed(&daemon, &long, "state", "cancelled");
    let why = text(&["why", &long], 0);
    assert!(why.starts_with("was cancelled at 20"), "{why}");
    let attached = ["generate", "a", "--steps", "1", "-o", "a.png", "--json"];
    let attached = daemon.imagepool(&attached).succeeded().json()[0]["job"].to_string();
    let why = text(&["why", &attached], 0);
    assert!(
        why.contains("went to the client that asked for it"),
        "{why}"
    );
    for verb in ["why", "cancel", "wait"] {
        let unknown = daemon.imagepool(&[verb, "999"]).ended_with(4).stderr;
        assert!(unknown.contains("job 999 is unknown"), "{unknown}");
    }
}

#[test]
fn an_accepted_detached_request_is_reported_as_json_a_line_for_each_job() {
    let daemon = TestDaemon::start(SLOW);
    let output = daemon
        .imagepool(&[
            "generate", "a", "--detach", "-n", "2", "--seed", "5", "--json",
        ])
        .succeeded();
    let seeds: Vec<_> = output
        .json()
        .iter()
        .map(|line| (line["job"].clone(), line["seed"].clone()))
        .collect();
    assert_eq!(seeds, [(1.into(), 5.into()), (2.into(), 6.into())]);
}

#[test]
fn a_detached_picture_is_dropped_after_its_time() {
    let settings = SLOW.replace("[pool]\n", "[pool]\nresult_seconds = 0.2\n");
    let daemon = TestDaemon::start(&settings);
    let jobs = detach(&daemon, &["--steps", "2"]);
    until_listed(&daemon, &jobs[0], "picture", "gone");
    let refused = daemon
        .imagepool(&["wait", &jobs[0], "--json"])
        .ended_with(1);
    assert!(
        refused.stderr.contains("was kept for 0.2 seconds"),
        "{}",
        refused.stderr
    );
    assert_eq!(refused.json()[0]["error"]["kind"], "picture_gone");
}

#[test]
fn the_oldest_detached_pictures_make_room_for_newer_ones() {
    let daemon = TestDaemon::start(&format!("{SLOW}[limits]\nresult_mb = 1\n"));
    // 192 KiB each: five of them fit.
    let jobs = detach(&daemon, &["--steps", "1", "-n", "7"]);
    until_listed(&daemon, &jobs[6], "picture", "kept");
    let states: Vec<Value> = jobs
        .iter()
        .map(|job| listed(&daemon, job).expect("it is listed")["picture"].clone())
        .collect();
    assert_eq!(
        states,
        ["gone", "gone", "kept", "kept", "kept", "kept", "kept"]
    );
    let refused = daemon.imagepool(&["wait", &jobs[0]]).ended_with(1).stderr;
    assert!(refused.contains("limits.result_mb = 1"), "{refused}");
    daemon.imagepool(&["wait", &jobs[2]]).succeeded();
}

#[test]
fn a_detached_job_survives_its_worker_with_the_same_bytes() {
    let daemon = TestDaemon::start(SLOW);
    let undisturbed = [
        "generate",
        "a red circle",
        "--steps",
        "40",
        "--seed",
        "1",
        "-o",
        "a.png",
    ];
    daemon.imagepool(&undisturbed).succeeded();
    let jobs = detach(&daemon, &["--steps", "40", "--seed", "1"]);
    let waits = daemon.imagepool_begun(&["wait", &jobs[0], "-o", "b.png", "--json"]);
    until_step(&daemon, &jobs[0], 3);
    let job = JobId(jobs[0].parse().expect("a number"));
    let worker = daemon.worker_of(job).expect("it runs");
    let pid = Pid::from_raw(worker.pid.expect("it runs") as i32);
    signal::kill(pid, Signal::SIGKILL).expect("it runs");
    let output = waits.output().succeeded();
    let line = &output.json()[0];
    assert_eq!(line["attempts"], 2);
    assert!(
        line["resumed_from_step"]
            .as_u64()
            .is_some_and(|step| step >= 3),
        "{line}"
    );
    let read = |name| fs::read(daemon.sandbox.pictures().join(name)).expect("it was written");
    assert!(read("a.png") == read("b.png"));
}

#[test]
fn an_interrupted_wait_leaves_its_job_alone_and_a_cancelled_job_ends_each_wait() {
    let daemon = TestDaemon::start(SLOW);
    let jobs = detach(&daemon, &["--steps", "1000"]);
    let job = jobs[0].as_str();
    let mut first = daemon.imagepool_begun(&["wait", job, "-o", "a.png"]);
    let second = daemon.imagepool_begun(&["wait", job, "-o", "b.png"]);
    until_step(&daemon, job, 2);
    first.signal(Signal::SIGINT);
    let interrupted = first.output().ended_with(130);
    assert_eq!(interrupted.stderr, "imagepool: interrupted\n");
    let line = listed(&daemon, job).expect("it runs on");
    assert_eq!(line["state"], "running");
    assert!(
        line["eta_s"].as_f64().is_some_and(|left| left > 1.0),
        "{line}"
    );
    daemon.imagepool(&["cancel", job]).succeeded();
    let cancelled = second.output().ended_with(1).stderr;
    assert!(cancelled.contains("cancelled by"), "{cancelled}");
    until_listed(&daemon, job, "state", "cancelled");
    daemon
        .imagepool(&["wait", job, "-o", "b.png"])
        .ended_with(1);
    daemon.imagepool(&["cancel", job]).ended_with(1);
    assert!(!daemon.sandbox.pictures().join("b.png").exists());
}

#[test]
fn a_wait_for_an_attached_job_follows_it_and_gets_no_picture() {
    let daemon = TestDaemon::start(SLOW);
    let draws = daemon.imagepool_begun(&["generate", "a", "--steps", "50", "-o", "a.png"]);
    until_step(&daemon, "1", 1);
    let refused = daemon.imagepool(&["wait", "1"]).ended_with(1).stderr;
    assert!(
        refused.contains("went to the client that asked for it"),
        "{refused}"
    );
    draws.output().succeeded();
    assert_eq!(listed(&daemon, "1"), None, "only detached jobs stay listed");
}

#[test]
fn a_job_of_another_user_is_as_unknown_as_one_that_never_was() {
    let sandbox = Sandbox::new(&format!("{SLOW}[socket]\nmode = \"0660\"\n"));
    sandbox.open();
    let daemon = TestDaemon::start_in(sandbox);
    let jobs = detach(&daemon, &["--steps", "1"]);
    let never = daemon.imagepool(&["wait", "4711"]).ended_with(4).stderr;
    assert!(never.contains("job 4711 is unknown"), "{never}");
    if !geteuid().is_root() {
        return; // Only root can be another user.
    }
    let sandbox = &daemon.sandbox;
    let group = nix::unistd::getegid().as_raw();
    chown(sandbox.home(), Some(NOBODY), None).expect("root may");
    let socket = sandbox.socket().display().to_string();
    let other = |arguments: &[&str]| {
        sandbox.imagepool_as(NOBODY, group, &[&["--socket", &socket], arguments].concat())
    };
    let refused = other(&["wait", &jobs[0]]).ended_with(4).stderr;
    assert_eq!(refused, never.replace("4711", &jobs[0]));
    let own = ["generate", "a", "--detach", "--steps", "1"];
    let own = String::from_utf8(other(&own).succeeded().stdout).expect("a number");
    let own = own.trim();
    other(&["wait", own, "-o", "other.png"]).succeeded();
    let seen = other(&["jobs", "--json"]).succeeded().json().remove(0);
    assert_eq!(seen.as_array().map(Vec::len), Some(1), "{seen}");
    assert_eq!(seen[0]["job"].to_string(), own);
    assert!(listed(&daemon, own).is_some(), "an operator sees all jobs");
}

#[test]
fn a_detached_job_needs_a_daemon() {
    let sandbox = Sandbox::new("");
    let none = sandbox
        .imagepool(&["generate", "a", "--detach"])
        .ended_with(7);
    assert!(
        none.stderr
            .contains("--detach needs a daemon that keeps the job"),
        "{}",
        none.stderr
    );
    let private = sandbox
        .imagepool(&["--private", "generate", "a", "--detach"])
        .ended_with(2);
    assert!(
        private.stderr.contains("a private pool ends"),
        "{}",
        private.stderr
    );
    sandbox
        .imagepool(&["generate", "a", "--detach", "-o", "a.png"])
        .ended_with(2);
}

#[test]
fn nothing_follows_the_acceptance_of_a_detached_request_on_its_connection() {
    let daemon = TestDaemon::start(SLOW);
    let mut client = daemon.client();
    let mut wanted = request("syn", 20, 1);
    wanted.detached = true;
    let mut drawing = client.generate(&wanted).expect("a good request");
    let job = drawing.accepted.first;
    assert!(drawing.next().is_none());
    let (texts, drawing) = client.wait(job, |_| {}).expect("it is known");
    assert_eq!(texts.prompt, wanted.prompt);
    let updates: Vec<_> = drawing
        .map(|update| update.expect("the daemon stays"))
        .collect();
    assert!(matches!(
        updates.last(),
        Some(ipc_protocol::client::Update::Picture(_))
    ));
    let jobs = client.jobs().expect("the conversation goes on");
    assert_eq!(jobs.len(), 1);
}
