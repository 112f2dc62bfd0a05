//! The log has one line for each turn in a job's life, with fields to search for.

use ipc_protocol::failure::FailureKind;
use ipc_protocol::request::ImageRequest;
use nix::sys::signal::Signal;
use tests::daemon::TestDaemon;
use tests::job::{self, request};
use tests::processes;
use tests::program::PATIENCE;

const MODEL: &str = "default_model = \"syn\"\n[models.syn]\nfamily = \"synthetic\"\n\
    params = { step_ms = 20, load_ms = 1, weights_mb = 1 }\n";

/// Waits for the line about a job, and checks that all `fields` are in it.
#[track_caller]
fn assert_line(daemon: &TestDaemon, what: &str, count: usize, fields: &[&str]) {
    let line = daemon.stderr.wait_for(what, count, PATIENCE);
    let words: Vec<&str> = line.split(' ').collect();
    for field in fields {
        let is_there = words.iter().any(|word| match field.ends_with('=') {
            true => word.starts_with(field),
            false => word == field,
        });
        assert!(is_there, "{field} in {line:?}");
    }
}

#[test]
fn a_job_whose_worker_dies_is_accepted_once_started_twice_and_finished_once() {
    let daemon = TestDaemon::start(MODEL);
    let mut killed = None;
    let drawn = job::draw(&mut daemon.client(), &request("syn", 8, 9), |id, step| {
        if step == 3 && killed.is_none() {
            killed = daemon.worker_of(id).and_then(|worker| worker.pid);
            processes::signal(killed.expect("it runs somewhere"), Signal::SIGKILL);
        }
    });
    let picture = drawn.expect("another worker continues it");
    let job = format!("job={}", picture.job.0);
    let size = format!("size={}", picture.size);
    let same = [
        job.as_str(),
        "model=syn",
        "seed=9",
        "steps=8",
        &size,
        "user=",
    ];
    let with = |more: &[&'static str]| -> Vec<String> {
        same.iter()
            .chain(more)
            .map(|field| (*field).to_owned())
            .collect()
    };
    let check = |what: &str, count: usize, more: &[&'static str]| {
        let fields = with(more);
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        assert_line(&daemon, what, count, &fields);
        assert_eq!(daemon.stderr.with(what).len(), count);
    };
    check("Job accepted", 1, &[]);
    check("Job started", 2, &["attempt=2", "worker=", "resume_step="]);
    check(
        "Job finished",
        1,
        &[
            "attempt=2",
            "worker=",
            "queue_ms=",
            "load_ms=",
            "encode_ms=",
            "denoise_ms=",
            "decode_ms=",
        ],
    );
    assert!(daemon.stderr.with("Job started")[0].contains("attempt=1"));
    assert!(daemon.stderr.with("Job failed").is_empty());
}

#[test]
fn jobs_that_fail_and_jobs_that_are_cancelled_say_why() {
    let daemon = TestDaemon::start(MODEL);
    let late = ImageRequest {
        timeout_ms: Some(1500),
        ..request("syn", 1000, 1)
    };
    let failure = daemon.draw(&late).expect_err("it takes 20 s");
    assert_eq!(failure.kind, FailureKind::DeadlineExceeded, "{failure:?}");
    let why = ["model=syn", "seed=1", "worker=", "attempt=1", "error="];
    let reasons = [&why[..], &["reason=\"deadline_exceeded\""]].concat();
    assert_line(&daemon, "Job failed", 1, &reasons);
    let mut client = daemon.client();
    let drawing = client
        .generate(&request("syn", 1000, 1))
        .expect("it is good");
    let job = format!("job={}", drawing.accepted.first.0);
    daemon.stderr.wait_for("Job started", 2, PATIENCE);
    drop(drawing);
    drop(client);
    let reasons = [&why[..], &["reason=\"cancelled\"", job.as_str()]].concat();
    assert_line(&daemon, "Job cancelled", 1, &reasons);
}

#[test]
fn a_text_line_begins_with_the_time_where_no_journal_adds_it() {
    let daemon = TestDaemon::start(MODEL);
    for line in daemon.stderr.all() {
        let time = line.split(' ').next().unwrap_or_default();
        let digits = time.chars().filter(char::is_ascii_digit).count();
        assert!(
            time.contains('T') && time.ends_with('Z') && digits >= 14,
            "{line:?}"
        );
    }
}
