//! The daemon serves whether its stderr is closed, full, or without a reader.

use std::fs::File;
use std::io::{self, Read};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::daemon::TestDaemon;
use tests::job::request;
use tests::lines::OutputLines;
use tests::program::PATIENCE;
use tests::wait;

const SETTINGS: &str =
    "[models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 0, load_ms = 1, weights_mb = 1 }\n";
/// The longest drain of an idle pool, with the last lines of the log.
const END: Duration = Duration::from_secs(10);

/// Asserts that the daemon draws, and ends well when asked.
fn serves_and_ends(mut daemon: TestDaemon) {
    daemon.draw(&request("syn", 4, 1)).expect("a good request");
    daemon.signal(Signal::SIGTERM);
    let (status, took) = wait::timed(|| daemon.wait());
    assert!(status.success(), "{status}");
    assert!(took < END, "{took:?}");
}

#[test]
fn a_daemon_whose_stderr_is_closed_serves() {
    serves_and_ends(TestDaemon::start_unread(SETTINGS, &[], None));
}

#[test]
fn a_daemon_whose_stderr_is_on_a_full_disk_serves() {
    let full = File::options().write(true).open("/dev/full");
    let full = Stdio::from(full.expect("Linux has it"));
    serves_and_ends(TestDaemon::start_unread(SETTINGS, &[], Some(full)));
}

#[test]
fn a_daemon_whose_reader_of_stderr_leaves_serves() {
    let (reader, writer) = io::pipe().expect("a pipe");
    let daemon = TestDaemon::start_unread(SETTINGS, &[], Some(writer.into()));
    drop(reader);
    serves_and_ends(daemon);
}

/// Makes the daemon log more than its queue and the pipe hold.
fn fill_the_log(daemon: &TestDaemon) {
    for seed in 0..8 {
        daemon
            .draw(&request("syn", 1000, seed))
            .expect("a good request");
    }
}

#[test]
fn a_reader_of_stderr_that_pauses_delays_nothing() {
    let (reader, writer) = io::pipe().expect("a pipe");
    let daemon = TestDaemon::start_unread(SETTINGS, &["--log-level", "debug"], Some(writer.into()));
    fill_the_log(&daemon);
    serves_and_ends(daemon);
    drop(reader);
}

#[test]
fn log_lines_that_found_no_reader_are_counted_when_it_comes_back() {
    let (reader, writer) = io::pipe().expect("a pipe");
    let daemon = TestDaemon::start_unread(SETTINGS, &["--log-level", "debug"], Some(writer.into()));
    fill_the_log(&daemon);
    let lines = OutputLines::follow(reader);
    let told = lines.wait_for("log lines dropped", 1, PATIENCE);
    let count = told
        .strip_prefix("warning: ")
        .and_then(|rest| rest.split(' ').next());
    let count: u64 = count.and_then(|count| count.parse().ok()).expect("a count");
    assert!(count > 0, "{told}");
    serves_and_ends(daemon);
}

#[test]
fn a_private_pool_draws_without_a_reader_of_its_stderr() {
    let daemon = TestDaemon::start(SETTINGS);
    let mut call = tests::imagepool::command(
        &daemon.sandbox,
        &[
            "generate",
            "a fox",
            "--private",
            "-v",
            "-m",
            "syn",
            "-o",
            "a.png",
        ],
    );
    let (mut reader, writer) = io::pipe().expect("a pipe");
    call.stderr(writer);
    let mut child = call.spawn().expect("imagepool starts");
    drop(call); // It holds an end of the pipe.
    reader.read_exact(&mut [0]).expect("it says something");
    drop(reader);
    let status = child.wait().expect("our own child");
    assert!(status.success(), "{status}");
    assert!(daemon.sandbox.pictures().join("a.png").exists());
}
