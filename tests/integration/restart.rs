//! Kills and restarts of the daemon: what it accepted for later, it keeps.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipc_protocol::ids::JobId;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::Value;
use tests::daemon::TestDaemon;
use tests::detached_jobs::{detach, listed, until_listed, until_step};
use tests::program::{PATIENCE, limit_file_size};
use tests::sandbox::Sandbox;
use tests::times::SortedTimes;
use tests::wait;

/// Workers may outlive their supervisor by this much.
const GRACE: Duration = Duration::from_secs(1);
/// One worker with steps of 20 ms.
const SLOW: &str = "default_model = \"syn\"\n[pool]\nmax_workers_per_model = 1\n\
    [models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 20, load_ms = 1, weights_mb = 1 }\n";

/// Kills a daemon with SIGKILL and starts the next one.
fn killed_and_restarted(daemon: TestDaemon) -> TestDaemon {
    TestDaemon::start_in(daemon.kill(GRACE))
}

/// Shuts a daemon down and starts the next one.
fn shut_down_and_restarted(mut daemon: TestDaemon) -> TestDaemon {
    daemon.imagepool(&["shutdown"]).succeeded();
    daemon.wait();
    let sandbox = Arc::clone(&daemon.sandbox);
    drop(daemon);
    TestDaemon::start_in(sandbox)
}

/// Draws a picture whose client waits, and returns the bytes of its file.
fn attached(daemon: &TestDaemon, file: &str, arguments: &[&str]) -> Vec<u8> {
    let arguments = [&["generate", "a red circle", "-o", file], arguments].concat();
    daemon.imagepool(&arguments).succeeded();
    fs::read(daemon.sandbox.pictures().join(file)).expect("it was written")
}

/// Waits for a detached job, and returns the bytes of its file.
fn waited(daemon: &TestDaemon, job: &str, file: &str) -> Vec<u8> {
    daemon
        .imagepool(&["wait", job, "-f", "-o", file])
        .succeeded();
    fs::read(daemon.sandbox.pictures().join(file)).expect("it was written")
}

fn journal(sandbox: &Sandbox) -> PathBuf {
    sandbox
        .home()
        .join(".local/state/imagepool/journal/jobs.redb")
}

#[test]
fn a_detached_job_is_drawn_after_a_kill_of_the_daemon_with_the_same_bytes() {
    let daemon = TestDaemon::start(SLOW);
    let same = ["--steps", "30", "--seed", "1"];
    let undisturbed = attached(&daemon, "a.png", &same);
    let running = detach(&daemon, &same);
    let waiting = detach(&daemon, &["--steps", "2", "--seed", "1"]);
    until_step(&daemon, &running[0], 3);
    let daemon = killed_and_restarted(daemon);
    let line = listed(&daemon, &running[0]).expect("it is kept");
    assert_eq!(
        (&line["seed"], &line["steps"], &line["prompt"]),
        (&1.into(), &30.into(), &"a red circle".into())
    );
    assert!(waited(&daemon, &running[0], "b.png") == undisturbed);
    let (first, second) = (
        waited(&daemon, &waiting[0], "c.png"),
        attached(&daemon, "d.png", &["--steps", "2", "--seed", "1"]),
    );
    assert!(first == second);
}

#[test]
fn a_seed_that_the_daemon_chose_is_the_same_after_a_restart() {
    let daemon = TestDaemon::start(SLOW);
    let output = daemon
        .imagepool(&["generate", "a", "--detach", "--steps", "50", "--json"])
        .succeeded();
    let line = output.json().remove(0);
    let (job, seed) = (line["job"].to_string(), line["seed"].clone());
    let daemon = killed_and_restarted(daemon);
    let output = daemon.imagepool(&["wait", &job, "--json"]).succeeded();
    assert_eq!(output.json()[0]["seed"], seed);
}

#[test]
fn a_finished_detached_picture_outlives_the_daemon_and_keeps_its_age() {
    let daemon = TestDaemon::start(SLOW);
    let jobs = detach(&daemon, &["--steps", "1", "--seed", "5", "-n", "3"]);
    let before = waited(&daemon, &jobs[2], "a.png");
    daemon.imagepool(&["cancel", "4711"]).ended_with(4);
    let daemon = killed_and_restarted(daemon);
    assert!(waited(&daemon, &jobs[2], "b.png") == before);
    let daemon = shut_down_and_restarted(daemon);
    let line = listed(&daemon, &jobs[2]).expect("it is kept");
    assert_eq!(
        (&line["state"], &line["picture"], &line["index"]),
        (&"finished".into(), &"kept".into(), &2.into())
    );
    let kept = line["kept_s"].as_f64().expect("a time");
    assert!(kept > 300.0 && kept < 600.0, "{kept}");
    assert!(waited(&daemon, &jobs[2], "c.png") == before);
}

#[test]
fn pictures_of_a_request_that_was_cut_in_two_are_all_there() {
    let daemon = TestDaemon::start(SLOW);
    let jobs = detach(&daemon, &["--steps", "8", "--seed", "9", "-n", "4"]);
    until_listed(&daemon, &jobs[1], "state", "finished");
    let daemon = killed_and_restarted(daemon);
    for (nth, job) in jobs.iter().enumerate() {
        let seed = (9 + nth).to_string();
        let detached = waited(&daemon, job, "a.png");
        let whole = attached(
            &daemon,
            &format!("{nth}.png"),
            &["--steps", "8", "--seed", &seed],
        );
        assert!(detached == whole, "picture {nth}");
    }
}

#[test]
fn an_expired_picture_is_not_brought_back() {
    let settings = SLOW.replace("[pool]\n", "[pool]\nresult_seconds = 1\n");
    let daemon = TestDaemon::start(&settings);
    let jobs = detach(&daemon, &["--steps", "1"]);
    until_listed(&daemon, &jobs[0], "picture", "gone");
    let daemon = killed_and_restarted(daemon);
    let refused = daemon.imagepool(&["wait", &jobs[0]]).ended_with(1).stderr;
    assert!(refused.contains("was kept for 1 seconds"), "{refused}");
}

#[test]
fn a_shut_down_daemon_leaves_its_detached_jobs_to_the_next_one() {
    let settings = SLOW.replace("[pool]\n", "[pool]\ndrain_seconds = 0.1\n");
    let daemon = TestDaemon::start(&settings);
    let same = ["--steps", "100", "--seed", "3"];
    let jobs = detach(&daemon, &same);
    until_step(&daemon, &jobs[0], 2);
    let daemon = shut_down_and_restarted(daemon);
    let line = listed(&daemon, &jobs[0]).expect("it is kept");
    assert_ne!(line["state"], "failed", "{line}");
    assert!(waited(&daemon, &jobs[0], "a.png") == attached(&daemon, "b.png", &same));
}

#[test]
fn a_cancelled_job_stays_cancelled() {
    let daemon = TestDaemon::start(SLOW);
    let jobs = detach(&daemon, &["--steps", "1000"]);
    daemon.imagepool(&["cancel", &jobs[0]]).succeeded();
    until_listed(&daemon, &jobs[0], "state", "cancelled");
    let daemon = killed_and_restarted(daemon);
    until_listed(&daemon, &jobs[0], "state", "cancelled");
    let refused = daemon.imagepool(&["wait", &jobs[0]]).ended_with(1).stderr;
    assert!(refused.contains("cancelled by"), "{refused}");
}

#[test]
fn ids_of_jobs_do_not_repeat() {
    let daemon = TestDaemon::start(SLOW);
    let number = |jobs: &[String]| jobs[0].parse::<u64>().expect("a number");
    let first = number(&detach(&daemon, &["--steps", "1"]));
    assert_eq!(first, 1);
    let daemon = shut_down_and_restarted(daemon);
    assert_eq!(number(&detach(&daemon, &["--steps", "1"])), 2);
    // Attached jobs have ids too, and none of them is in the journal.
    for _ in 0..3 {
        attached(&daemon, "a.png", &["--steps", "1", "-f"]);
    }
    let daemon = killed_and_restarted(daemon);
    let after = number(&detach(&daemon, &["--steps", "1"]));
    assert!(after > 5, "{after}");
}

#[test]
fn a_job_of_a_model_that_is_gone_or_changed_fails_with_a_sentence() {
    let other = "[models.b]\nfamily = \"synthetic\"\nparams = { step_ms = 20, load_ms = 1, weights_mb = 1 }\n";
    let daemon = TestDaemon::start(&format!("{SLOW}{other}"));
    let changed = detach(&daemon, &["--steps", "1000"]);
    let gone = detach(&daemon, &["--steps", "1000", "-m", "b"]);
    until_step(&daemon, &changed[0], 1);
    let sandbox = daemon.kill(GRACE);
    let new = SLOW.replace("weights_mb = 1", "weights_mb = 2");
    fs::write(sandbox.settings(), new).expect("our own folder");
    let daemon = TestDaemon::start_in(sandbox);
    let refused = daemon.imagepool(&["wait", &changed[0]]).ended_with(1);
    assert!(
        refused.stderr.contains("the files of syn changed since"),
        "{}",
        refused.stderr
    );
    let refused = daemon.imagepool(&["wait", &gone[0]]).ended_with(2).stderr;
    assert!(refused.contains("no model called"), "{refused}");
}

#[test]
fn a_job_that_killed_a_worker_has_one_attempt_less_after_a_restart() {
    let daemon = TestDaemon::start(SLOW);
    let jobs = detach(&daemon, &["--steps", "200"]);
    until_step(&daemon, &jobs[0], 1);
    let job = JobId(jobs[0].parse().expect("a number"));
    let worker = daemon.worker_of(job).expect("it runs");
    let pid = Pid::from_raw(worker.pid.expect("it runs") as i32);
    signal::kill(pid, Signal::SIGKILL).expect("it runs");
    daemon.stderr.wait_for("Job will be retried", 1, PATIENCE);
    until_step(&daemon, &jobs[0], 3);
    let daemon = killed_and_restarted(daemon);
    let output = daemon.imagepool(&["wait", &jobs[0], "--json"]).succeeded();
    let attempts = output.json()[0]["attempts"].as_u64().expect("a number");
    assert!(attempts >= 2, "{attempts}");
}

#[test]
fn a_damaged_journal_is_moved_aside_and_told() {
    let daemon = TestDaemon::start(SLOW);
    detach(&daemon, &["--steps", "1"]);
    let sandbox = daemon.kill(GRACE);
    fs::write(journal(&sandbox), b"what a bad disk left").expect("our own folder");
    let daemon = TestDaemon::start_in(sandbox);
    let line = daemon
        .stderr
        .wait_for("The journal is damaged; a new one begins", 1, PATIENCE);
    assert!(line.contains("damaged-"), "{line}");
    let supervisor = daemon.status().supervisor;
    assert_eq!(supervisor.journal, "renewed");
    assert!(
        supervisor.journal_detail.contains("damaged-"),
        "{}",
        supervisor.journal_detail
    );
    let jobs = detach(&daemon, &["--steps", "1"]);
    let daemon = killed_and_restarted(daemon);
    daemon.imagepool(&["wait", &jobs[0]]).succeeded();
}

#[test]
fn ids_do_not_begin_again_after_damage_and_each_damage_is_one_line() {
    let mut daemon = TestDaemon::start(SLOW);
    let mut last = 0;
    let damages: [fn(&mut Vec<u8>); 4] = [
        |bytes| bytes[4096..].fill(0x5a),
        |bytes| bytes[64..512].fill(0xff),
        |bytes| bytes.truncate(bytes.len() / 2),
        Vec::clear,
    ];
    for damage in damages {
        let jobs = detach(&daemon, &["--steps", "1", "-n", "3"]);
        let ids: Vec<u64> = jobs.iter().map(|job| job.parse().expect("an id")).collect();
        assert!(ids[0] > last, "{ids:?} after {last}");
        last = ids[2];
        let sandbox = daemon.kill(GRACE);
        let mut bytes = fs::read(journal(&sandbox)).expect("it is there");
        damage(&mut bytes);
        fs::write(journal(&sandbox), bytes).expect("our own folder");
        daemon = TestDaemon::start_in(sandbox);
        daemon.imagepool(&["wait", &jobs[0]]).ended_with(4);
        assert_eq!(daemon.stderr.with("panicked"), Vec::<String>::new());
        let lines = daemon.stderr.with("The journal is damaged");
        assert!(lines.len() <= 1, "{lines:?}");
    }
}

#[test]
fn on_a_full_disk_detached_jobs_are_refused_attached_ones_drawn_and_relief_needs_no_restart() {
    let daemon = TestDaemon::start(SLOW);
    let before = detach(&daemon, &["--steps", "1"]);
    until_listed(&daemon, &before[0], "picture", "kept");
    limit_file_size(daemon.pid(), "4096");
    let refused = daemon
        .imagepool(&["generate", "a", "--detach", "--json"])
        .ended_with(75);
    assert_eq!(refused.json()[0]["error"]["kind"], "not_kept");
    assert!(
        refused.stderr.contains("cannot be written: File too large"),
        "{}",
        refused.stderr
    );
    assert_eq!(daemon.status().supervisor.journal, "failing");
    let listed_jobs = daemon.imagepool(&["jobs", "--json"]).json().remove(0);
    assert_eq!(
        listed_jobs.as_array().map(Vec::len),
        Some(1),
        "{listed_jobs}"
    );
    limit_file_size(daemon.pid(), "unlimited");
    let after = detach(&daemon, &["--steps", "1"]);
    assert_eq!(daemon.status().supervisor.journal, "kept");
    let daemon = killed_and_restarted(daemon);
    for job in [&before[0], &after[0]] {
        daemon
            .imagepool(&["wait", job, "-f", "-o", "x.png"])
            .succeeded();
    }
    let jobs = daemon.imagepool(&["jobs", "--json"]).json().remove(0);
    assert_eq!(jobs.as_array().map(Vec::len), Some(2), "{jobs}");
}

/// Starts a command that draws through a restart, and waits until the job runs.
fn drawing(daemon: &TestDaemon, options: &[&str]) -> tests::program::Call {
    let socket = daemon.sandbox.socket().display().to_string();
    let job = ["generate", "a red circle", "--steps", "40", "-o", "a.png"];
    let arguments = [&["--socket", &socket], options, &job].concat();
    let call = daemon.imagepool_begun(&arguments);
    until_step(daemon, "1", 2);
    call
}

#[test]
fn generate_draws_through_a_kill_of_the_daemon_and_a_restart() {
    let daemon = TestDaemon::start(SLOW);
    let call = drawing(&daemon, &["--json"]);
    let daemon = killed_and_restarted(daemon);
    let output = call.output().succeeded();
    let lines = output.json();
    assert_eq!(lines.len(), 1, "one picture");
    let waits = "imagepool: the daemon ended; waiting for the next one";
    assert_eq!(output.stderr.matches(waits).count(), 1, "{}", output.stderr);
    let seed = lines[0]["seed"].to_string();
    let drawn = fs::read(daemon.sandbox.pictures().join("a.png")).expect("it was written");
    assert!(drawn == attached(&daemon, "b.png", &["--steps", "40", "--seed", &seed]));
}

#[test]
fn pictures_that_came_before_a_kill_are_not_drawn_again() {
    let daemon = TestDaemon::start(SLOW);
    let job = [
        "generate", "a", "--steps", "15", "-n", "3", "--seed", "7", "-o", "a.png", "--json",
    ];
    let call = daemon.imagepool_begun(&job);
    let first = daemon.sandbox.pictures().join("a-1.png");
    assert!(wait::until(PATIENCE, || first.exists()));
    until_step(&daemon, "2", 2);
    let daemon = killed_and_restarted(daemon);
    let output = call.output().succeeded();
    let seeds: Vec<Value> = output
        .json()
        .iter()
        .map(|line| line["seed"].clone())
        .collect();
    assert_eq!(seeds, [7, 8, 9]);
    let finished = daemon.imagepool(&["wait", "1"]).ended_with(4).stderr;
    assert!(finished.contains("unknown"), "{finished}");
}

#[test]
fn wait_follows_its_job_through_a_kill_of_the_daemon() {
    let daemon = TestDaemon::start(SLOW);
    let jobs = detach(&daemon, &["--steps", "40"]);
    let call = daemon.imagepool_begun(&["wait", &jobs[0], "-o", "a.png"]);
    until_step(&daemon, &jobs[0], 2);
    let daemon = killed_and_restarted(daemon);
    call.output().succeeded();
    assert!(daemon.sandbox.pictures().join("a.png").exists());
}

#[test]
fn a_client_gives_up_after_its_time_and_exits_with_75() {
    let daemon = TestDaemon::start(SLOW);
    let call = drawing(&daemon, &["--reconnect", "0.3"]);
    daemon.kill(GRACE);
    let lost = call.output().ended_with(75).stderr;
    assert!(lost.contains("none answered within 0.3 s"), "{lost}");
}

#[test]
fn a_client_that_waits_for_the_daemon_can_be_interrupted() {
    let daemon = TestDaemon::start(SLOW);
    let mut call = drawing(&daemon, &[]);
    daemon.kill(GRACE);
    call.signal(Signal::SIGINT);
    call.output().ended_with(130);
}

#[test]
fn a_daemon_that_was_stopped_on_purpose_has_answered_and_is_not_waited_for() {
    let settings = SLOW.replace("[pool]\n", "[pool]\ndrain_seconds = 0.1\n");
    let daemon = TestDaemon::start(&settings);
    let call = drawing(&daemon, &[]);
    daemon.imagepool(&["shutdown"]).succeeded();
    let stopped = call.output().ended_with(75).stderr;
    assert!(
        stopped.contains("shut down before it could finish"),
        "{stopped}"
    );
}

/// A request that crashes each worker of its model.
const POISON: [&str; 4] = ["generate", "poison", "-m", "ends-signal-11-busy"];

/// Brings a request into quarantine.
fn quarantined(daemon: &TestDaemon) {
    let refused = daemon.imagepool(&POISON).ended_with(1).stderr;
    assert!(refused.contains("quarantine"), "{refused}");
}

#[test]
fn a_quarantine_outlives_the_daemon_and_ends_in_its_time() {
    let ends = tests::misbehaviours::ends(1);
    let settings = format!("[pool]\nquarantine_seconds = 6\n{ends}");
    let daemon = TestDaemon::start_in(Sandbox::with_hostile_worker(&settings));
    quarantined(&daemon);
    let listed = daemon.imagepool(&["quarantine", "list"]).succeeded().text();
    assert!(listed.contains("poison"), "{listed}");
    let daemon = killed_and_restarted(daemon);
    let name = listed.split_whitespace().next().expect("a name");
    let after = daemon.imagepool(&["quarantine", "list"]).succeeded().text();
    assert!(after.starts_with(name), "{after}");
    let refused = daemon.imagepool(&POISON).ended_with(1).stderr;
    assert!(refused.contains("quarantine"), "{refused}");
    let is_empty = || daemon.imagepool(&["quarantine", "list"]).text().is_empty();
    assert!(wait::until(PATIENCE, is_empty));
}

#[test]
fn a_released_request_stays_released() {
    let ends = tests::misbehaviours::ends(1);
    let daemon = TestDaemon::start_in(Sandbox::with_hostile_worker(&ends));
    quarantined(&daemon);
    daemon.imagepool(&["quarantine", "drop"]).succeeded();
    let daemon = shut_down_and_restarted(daemon);
    assert!(daemon.imagepool(&["quarantine", "list"]).text().is_empty());
}

/// Prints what a detached request costs beside an attached one. Fails only if it is beyond all reason.
#[test]
fn the_cost_of_accepting_a_detached_request_is_measured() {
    let daemon = TestDaemon::start(
        "[pool]\nqueue_per_model = 1000\nqueue_total = 1000\n\
        [models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 1, load_ms = 1, weights_mb = 1 }\n",
    );
    let mut client = daemon.client();
    let mut times = |detached: bool| {
        let times: SortedTimes = (0..200)
            .map(|seed| {
                let mut wanted = tests::job::request("syn", 1, seed);
                wanted.detached = detached;
                let (drawing, accepted) = wait::timed(|| client.generate(&wanted));
                let drawing = drawing.expect("there is room");
                drawing.for_each(|update| drop(update.expect("the daemon stays")));
                accepted
            })
            .collect();
        (times.percentile(50), times.percentile(99))
    };
    let (attached, detached) = (times(false), times(true));
    println!("accepted after (p50, p99): attached {attached:?}, detached {detached:?}");
    assert!(detached.0 < Duration::from_secs(1), "{detached:?}");
}

#[test]
fn a_detached_job_resumes_from_its_last_latents_after_a_kill_of_the_daemon() {
    let settings = SLOW.replace("step_ms = 20", "step_ms = 300");
    let daemon = TestDaemon::start(&settings);
    let same = ["--steps", "20", "--seed", "1"];
    let jobs = detach(&daemon, &same);
    until_step(&daemon, &jobs[0], 9);
    let daemon = killed_and_restarted(daemon);
    let output = daemon
        .imagepool(&["wait", &jobs[0], "-o", "a.png", "--json"])
        .succeeded();
    let line = output.json().remove(0);
    let resumed = line["resumed_from_step"].as_u64().expect("a number");
    assert!((3..=10).contains(&resumed), "{line}");
    let detached = fs::read(daemon.sandbox.pictures().join("a.png")).expect("it was written");
    assert!(detached == attached(&daemon, "b.png", &same));
}
