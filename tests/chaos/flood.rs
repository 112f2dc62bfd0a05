//! Workers and clients that send without end: all others still get their turn.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use ipc_protocol::failure::FailureKind;
use ipc_protocol::frame;
use ipc_protocol::messages::client::ToPool;
use ipc_protocol::request::ImageRequest;
use ipc_protocol::version::PROTOCOL;
use nix::sys::signal::Signal;
use tests::daemon::TestDaemon;
use tests::job::{draw, request};
use tests::misbehaviours::{model, settings};
use tests::program::PATIENCE;
use tests::sandbox::Sandbox;
use tests::times::SortedTimes;
use tests::{processes, turn, wait};

/// A model to draw with, and one whose jobs take longer than any test.
const SETTINGS: &str = "[pool]\ncold_start_workers = 1\nmax_workers_per_model = 1\nqueue_per_model = 1000\n\
    [models.good]\nfamily = \"synthetic\"\nparams = { step_ms = 40, load_ms = 1, weights_mb = 1 }\n\
    [models.slow]\nfamily = \"synthetic\"\nparams = { step_ms = 1000, load_ms = 1, weights_mb = 1 }\n";
/// The longest time of `status`, and the largest delay of a time limit.
const STATUS: Duration = Duration::from_millis(50);
const LATE: Duration = Duration::from_millis(200);
/// The drain time of the settings, and what it takes to end workers after it.
const END: Duration = Duration::from_secs(5 + 5);
const ROUNDS: usize = 200;

fn daemon() -> TestDaemon {
    let settings = format!("{SETTINGS}{}", settings(1));
    TestDaemon::start_in(Sandbox::with_hostile_worker(&settings))
}

/// The time that 99 of 100 looks at `status` stay below.
fn status_p99(daemon: &TestDaemon) -> Duration {
    let mut client = daemon.client();
    let took: SortedTimes = (0..ROUNDS)
        .map(|_| wait::timed(|| client.status().expect("the daemon serves")).1)
        .collect();
    took.percentile(99)
}

/// Fails the test if `status` takes longer than it may, by more than this machine adds anyway.
fn status_is_quick(daemon: &TestDaemon, undisturbed: Duration) {
    let p99 = status_p99(daemon);
    println!("status: p99 {p99:?}, undisturbed {undisturbed:?}");
    assert!(
        p99 <= STATUS.max(undisturbed * 4),
        "{p99:?}, undisturbed {undisturbed:?}"
    );
}

/// A job that cannot be done in its two seconds is answered in time.
fn a_time_limit_is_kept(daemon: &TestDaemon, undisturbed: Duration) {
    let limit = Duration::from_secs(2);
    let wanted = ImageRequest {
        timeout_ms: Some(2000),
        ..request("slow", 100, 1)
    };
    let (answer, took) = wait::timed(|| daemon.draw(&wanted));
    println!("a limit of {limit:?} was answered after {took:?}");
    let failure = answer.expect_err("it takes longer");
    assert_eq!(failure.kind, FailureKind::DeadlineExceeded);
    // Once a step is measured the pool knows that the limit cannot be kept, and refuses at once.
    let refused = failure.message.starts_with("cannot be done within");
    assert!(
        (refused || took >= limit) && took <= limit + LATE.max(undisturbed * 4),
        "{took:?}: {failure}"
    );
}

/// A worker that is frozen in the middle of its job is found, and the job ends elsewhere.
fn a_frozen_worker_is_found(daemon: &TestDaemon) {
    let mut frozen = None;
    let picture = draw(
        &mut daemon.client(),
        &request("good", 20, 5),
        |job, step| {
            if step == 6 && frozen.is_none() {
                frozen = daemon.worker_of(job).and_then(|worker| worker.pid);
                processes::signal(frozen.expect("it runs"), Signal::SIGSTOP);
            }
        },
    );
    assert_eq!(picture.expect("it ends elsewhere").report.attempts, 2);
}

fn it_ends(mut daemon: TestDaemon) {
    daemon.signal(Signal::SIGTERM);
    let (status, took) = wait::timed(|| daemon.wait());
    println!("ended after {took:?}");
    assert!(status.success(), "{status}");
    assert!(took < END, "{took:?}");
}

/// Lets a worker misbehave while `check` looks at the rest.
fn beside(misbehaviour: &'static str, check: impl FnOnce(&TestDaemon, Duration)) {
    let _turn = turn::take();
    let daemon = daemon();
    let undisturbed = status_p99(&daemon);
    let mut client = daemon.client();
    thread::spawn(move || {
        // Its answer, or the daemon's end, is of no interest.
        if let Ok(drawing) = client.generate(&request(&model(misbehaviour), 6, 1)) {
            drawing.for_each(drop);
        }
    });
    let runs = || {
        let status = daemon.status();
        let named = |it: &&_| is_of(it, &model(misbehaviour));
        status
            .workers
            .iter()
            .find(named)
            .is_some_and(|it| it.pid.is_some())
    };
    assert!(wait::until(PATIENCE, runs), "it starts");
    check(&daemon, undisturbed);
    it_ends(daemon);
}

fn is_of(worker: &ipc_protocol::status::WorkerStatus, model: &str) -> bool {
    worker.model.as_str() == model
}

const FLOODS: [&str; 4] = [
    "heartbeats-without-end",
    "loading-without-end",
    "wrong-steps-without-end",
    "stderr-without-end",
];

#[test]
fn status_is_quick_beside_a_worker_that_sends_without_end() {
    for flood in FLOODS {
        println!("{flood}:");
        beside(flood, status_is_quick);
    }
}

#[test]
fn a_time_limit_is_kept_beside_a_worker_that_sends_heartbeats_without_end() {
    beside(FLOODS[0], a_time_limit_is_kept);
}

#[test]
fn a_frozen_worker_is_found_beside_one_that_sends_heartbeats_without_end() {
    beside(FLOODS[0], |daemon, _| a_frozen_worker_is_found(daemon));
}

#[test]
fn a_worker_that_sends_heartbeats_without_end_is_ended_for_that_or_for_its_lack_of_progress() {
    let _turn = turn::take();
    let daemon = daemon();
    let wanted = request(&model(FLOODS[0]), 6, 1);
    let failure = daemon.draw(&wanted).expect_err("it never draws");
    println!("{failure:?}");
    let ended = daemon.stderr.with("Stopping a worker");
    let is_told = |line: &String| line.contains("reason=stuck") || line.contains("protocol");
    assert!(!ended.is_empty() && ended.iter().all(is_told), "{ended:?}");
}

#[test]
fn a_worker_that_writes_to_stderr_without_end_is_shown_as_a_few_lines_and_a_number() {
    let _turn = turn::take();
    let daemon = daemon();
    let wanted = request(&model("stderr-without-end"), 6, 1);
    daemon.draw(&wanted).expect_err("it never draws");
    let shown = daemon.stderr.with("a line of a worker").len();
    println!("{shown} lines shown; {:?}", daemon.stderr.with("not shown"));
    // Each life has a burst, and the rate until its silence on the socket has ended it.
    let lives = daemon.stderr.with("Spawned worker").len();
    assert!(
        (200..lives * 1000).contains(&shown),
        "{shown} lines of {lives} lives"
    );
    daemon.stderr.wait_for("not shown", 1, PATIENCE);
}

#[test]
fn control_characters_of_a_worker_are_not_passed_on() {
    let daemon = daemon();
    let wanted = request(&model("giving-up-with-control-characters"), 6, 1);
    daemon.draw(&wanted).expect_err("it cannot load");
    daemon.stderr.wait_for("forged", 1, PATIENCE);
    for line in daemon.stderr.all() {
        assert!(
            !line.contains(|c: char| c.is_control() || c == '\u{202e}'),
            "{line:?}"
        );
        assert!(!line.starts_with("error: forged"), "{line:?}");
    }
}

/// A client that asks for `status` without ever waiting for an answer. It ends with its socket.
fn asks_without_end(daemon: &TestDaemon) -> UnixStream {
    let socket = UnixStream::connect(daemon.sandbox.socket()).expect("it serves");
    let copy = || socket.try_clone().expect("our own socket");
    let (mut writer, mut reader) = (copy(), copy());
    let encoded = |message| frame::encode(&message).expect("a frame");
    let asks = encoded(ToPool::Status).repeat(100);
    thread::spawn(move || {
        let hello = encoded(ToPool::Hello { protocol: PROTOCOL });
        let mut open = writer.write_all(&hello).is_ok();
        while open {
            open = writer.write_all(&asks).is_ok();
        }
    });
    thread::spawn(move || {
        let mut bytes = vec![0; 1 << 16];
        while reader.read(&mut bytes).is_ok_and(|read| read > 0) {}
    });
    socket
}

#[test]
fn clients_that_ask_without_end_at_a_long_queue_keep_no_other_from_its_turn() {
    let _turn = turn::take();
    let daemon = daemon();
    let many = ImageRequest {
        count: 99,
        detached: true,
        ..request("slow", 100, 1)
    };
    for _ in 0..10 {
        let mut client = daemon.client();
        drop(client.generate(&many).expect("there is room"));
    }
    let undisturbed = status_p99(&daemon);
    let clients: Vec<UnixStream> = (0..8).map(|_| asks_without_end(&daemon)).collect();
    status_is_quick(&daemon, undisturbed);
    a_time_limit_is_kept(&daemon, undisturbed);
    a_frozen_worker_is_found(&daemon);
    it_ends(daemon);
    for client in clients {
        // The daemon has gone already.
        let _ = client.shutdown(Shutdown::Both);
    }
}
