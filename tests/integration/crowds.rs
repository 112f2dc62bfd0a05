//! Many clients that hold on to places, descriptors, half messages and unread pictures.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ipc_protocol::client::Client;
use ipc_protocol::connection;
use ipc_protocol::failure::FailureKind;
use ipc_protocol::frame;
use ipc_protocol::ids::JobId;
use ipc_protocol::messages::client::{FromPool, ToPool};
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::PictureSize;
use ipc_protocol::version::PROTOCOL;
use nix::unistd::{getegid, geteuid};
use tests::daemon::TestDaemon;
use tests::figures::resident_kib;
use tests::job::request;
use tests::processes;
use tests::program::{self, PATIENCE};
use tests::sandbox::Sandbox;
use tests::times::SortedTimes;
use tests::turn;
use tests::wait;

/// A user that owns nothing here.
const NOBODY: u32 = 65534;
/// Descriptors that a daemon may have in these tests; it takes about 20 itself, and 12 clients get a place.
const OPEN_FILES: u32 = 64;
/// Models that draw at once, and one that draws for as long as a test lasts.
const MODELS: usize = 7;

fn settings() -> String {
    let quick = (0..MODELS).map(|number| {
        format!("[models.syn-{number}]\nfamily = \"synthetic\"\nparams = {{ step_ms = 1, load_ms = 1, weights_mb = 1 }}\n")
    });
    let quick: String = quick.collect();
    format!(
        "default_model = \"syn-0\"\n[pool]\ncold_start_workers = 1\nmax_workers_per_model = 1\nqueue_per_model = 2000\n\
         [models.megapixels]\nfamily = \"synthetic\"\nparams = {{ step_ms = 60, load_ms = 1, weights_mb = 1 }}\n\
         [models.slow]\nfamily = \"synthetic\"\nparams = {{ step_ms = 1000, load_ms = 1, weights_mb = 1 }}\n{quick}"
    )
}

/// A connection without the client library.
fn greeted(daemon: &TestDaemon) -> UnixStream {
    let mut stream = UnixStream::connect(daemon.sandbox.socket()).expect("it serves");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    connection::write(&mut stream, &ToPool::Hello { protocol: PROTOCOL }).expect("it reads");
    let hello: FromPool = connection::read(&mut stream).expect("it answers");
    assert!(matches!(hello, FromPool::Hello { .. }), "{hello:?}");
    stream
}

/// Whether the daemon has closed the connection, within `patience`.
fn is_closed(stream: &mut UnixStream, patience: Duration) -> bool {
    stream.set_read_timeout(Some(patience)).expect("a socket");
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

/// Resident memory of a process in KiB.
fn resident(pid: u32) -> u64 {
    resident_kib(pid).expect("it lives")
}

#[test]
fn idle_clients_make_room_for_others() {
    let daemon = TestDaemon::start_with_open_files(&settings(), OPEN_FILES);
    let mut idle: Vec<Client> = Vec::new();
    for number in 0..2 * OPEN_FILES {
        let client = Client::connect(&daemon.sandbox.socket());
        idle.push(client.unwrap_or_else(|error| panic!("client {number}: {error}")));
    }
    daemon.imagepool(&["status"]).succeeded();
    let newest = idle.last_mut().expect("many");
    newest.status().expect("the newest has its place");
    assert!(idle[0].status().is_err(), "the oldest has left");
}

#[test]
fn workers_start_beside_idle_clients_that_hold_every_place() {
    let daemon = TestDaemon::start_with_open_files(&settings(), OPEN_FILES);
    let _idle: Vec<UnixStream> = (0..OPEN_FILES).map(|_| greeted(&daemon)).collect();
    for number in 0..MODELS {
        let (model, file) = (format!("syn-{number}"), format!("{number}.png"));
        let output = daemon.imagepool(&["generate", "a fox", "-m", &model, "-o", &file]);
        assert_eq!(output.code, 0, "{model}: {}", output.stderr);
    }
    let held = processes::descriptors(daemon.pid()).len();
    assert!(held > OPEN_FILES as usize / 2, "{held}: nothing was scarce");
    assert_eq!(
        daemon.stderr.with("could not be started"),
        Vec::<String>::new()
    );
}

#[test]
fn busy_clients_leave_an_operator_a_place_for_questions() {
    let daemon = TestDaemon::start_with_open_files(&settings(), OPEN_FILES);
    let mut busy = Vec::new();
    let refused = loop {
        assert!(busy.len() < OPEN_FILES as usize, "nobody is refused");
        let mut stream = greeted(&daemon);
        let wanted = request("slow", 900, busy.len() as u64);
        connection::write(&mut stream, &ToPool::Generate(wanted)).expect("it reads");
        match connection::read(&mut stream).expect("it answers") {
            FromPool::Refused(failure) => break failure,
            FromPool::Accepted(_) => busy.push(stream),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused.kind, FailureKind::QueueFull);
    assert!(refused.message.contains("open files"), "{refused}");
    for _ in 0..20 {
        daemon.imagepool(&["status"]).succeeded();
    }
    daemon
        .imagepool(&["generate", "x", "-o", "x.png"])
        .ended_with(75);
    drop(busy);
    let drawn = || {
        let output = daemon.imagepool(&["generate", "x", "-f", "-o", "x.png"]);
        output.code == 0
    };
    assert!(wait::until(PATIENCE, drawn), "their places are free again");
}

#[test]
fn workers_that_hold_every_descriptor_leave_an_operator_a_place_for_questions() {
    let slow = settings().replace("step_ms = 1,", "step_ms = 1000,");
    let daemon = TestDaemon::start_with_open_files(&slow, OPEN_FILES);
    let mut busy = Vec::new();
    for number in 0..MODELS {
        let mut stream = greeted(&daemon);
        let wanted = request(&format!("syn-{number}"), 900, 1);
        connection::write(&mut stream, &ToPool::Generate(wanted)).expect("it reads");
        busy.push(stream);
    }
    let all_held = || processes::descriptors(daemon.pid()).len() == OPEN_FILES as usize;
    assert!(wait::until(PATIENCE, all_held), "descriptors are left");
    for _ in 0..20 {
        daemon.imagepool(&["status"]).succeeded();
    }
    drop(busy);
}

#[test]
fn one_user_cannot_take_the_places_of_others() {
    if !geteuid().is_root() {
        return;
    }
    let sandbox = Sandbox::new(&format!("{}[socket]\nmode = \"0660\"\n", settings()));
    sandbox.open();
    let daemon = TestDaemon::start_with_open_files_in(sandbox, OPEN_FILES);
    let sandbox = &daemon.sandbox;
    chown(sandbox.home(), Some(NOBODY), None).expect("root may");
    let (socket, group) = (sandbox.socket().display().to_string(), getegid().as_raw());
    let arguments = ["--socket", &socket, "events", "--follow"];
    let follow = || {
        let command = tests::imagepool::command(sandbox, &arguments);
        program::Call::start(program::as_user(command, NOBODY, group))
    };
    let before = processes::descriptors(daemon.pid()).len();
    let _following: Vec<_> = (0..6).map(|_| follow()).collect();
    let have_come = || processes::descriptors(daemon.pid()).len() >= before + 6;
    assert!(wait::until(PATIENCE, have_come), "they have their places");
    let ask = ["--socket", &socket, "status"];
    let is_full = || sandbox.imagepool_as(NOBODY, group, &ask).code == 75;
    assert!(wait::until(PATIENCE, is_full), "the user has no place left");
    let refused = sandbox.imagepool_as(NOBODY, group, &ask).ended_with(75);
    assert!(
        refused.stderr.contains("clients of your user"),
        "{}",
        refused.stderr
    );
    daemon
        .imagepool(&["generate", "x", "-o", "x.png"])
        .succeeded();
}

#[test]
fn half_a_message_does_not_hold_a_client_without_end() {
    let daemon = TestDaemon::start(&settings());
    let status = frame::encode(&ToPool::Status).expect("a message");
    let mut halves: Vec<UnixStream> = (1..status.len()).map(|_| greeted(&daemon)).collect();
    for (number, stream) in (1..).zip(&mut halves) {
        stream.write_all(&status[..number]).expect("it reads");
    }
    let mut waiting = greeted(&daemon);
    for (number, stream) in (1..).zip(&mut halves) {
        assert!(is_closed(stream, PATIENCE), "after {number} bytes");
    }
    connection::write(&mut waiting, &ToPool::Status).expect("it may wait for long");
    connection::read::<FromPool>(&mut waiting).expect("it may wait for long");
}

/// Memory that unread pictures may take in all, in KiB.
const UNREAD_KIB: u64 = 64 * 1024;
/// Clients that never read their picture of 3 MiB.
const NEVER_READING: u64 = 200;

/// A request for a picture of 3 MiB at the native door. Its model draws 15 of them a second: the daemon bounds how long
/// pictures wait, so a bound on their memory holds up to some speed of drawing only.
fn large(daemon: &TestDaemon, seed: u64) -> UnixStream {
    let wanted = ImageRequest {
        size: Some(PictureSize {
            width: 1024,
            height: 1024,
        }),
        ..request("megapixels", 1, seed)
    };
    let mut stream = greeted(daemon);
    connection::write(&mut stream, &ToPool::Generate(wanted)).expect("it reads");
    stream
}

/// The same over HTTP.
fn large_over_http(daemon: &TestDaemon, seed: u64) -> UnixStream {
    let body = format!(
        "{{\"prompt\": \"x\", \"model\": \"megapixels\", \"size\": \"1024x1024\", \"steps\": 1, \"seed\": {seed}}}"
    );
    let head =
        "POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
    let socket = daemon.sandbox.socket().with_file_name("http.sock");
    let mut stream = UnixStream::connect(socket).expect("it serves");
    let length = body.len();
    write!(stream, "{head}\r\nContent-Length: {length}\r\n\r\n{body}").expect("it reads");
    stream
}

/// Clients that ask so and never read take bounded memory, and are gone soon; a slow one gets its picture.
fn stay_bounded(ask: impl Fn(&TestDaemon, u64) -> UnixStream, answer_bytes: usize) {
    let _turn = turn::take();
    let daemon = TestDaemon::start(&settings());
    daemon
        .imagepool(&[
            "generate",
            "x",
            "--model",
            "megapixels",
            "--size",
            "1024x1024",
            "-o",
            "x.png",
        ])
        .succeeded();
    let before = resident(daemon.pid());
    let held = processes::descriptors(daemon.pid()).len();
    let mut slow = ask(&daemon, 0);
    let slow = thread::spawn(move || {
        let (mut taken, mut bytes) = (0, vec![0; 64 * 1024]);
        while taken < answer_bytes {
            let read = slow.read(&mut bytes).expect("the picture comes");
            assert!(read > 0, "cut after {taken} bytes");
            taken += read;
            wait::moments_of_chance(Duration::from_millis(100));
        }
    });
    let asked = (1..=NEVER_READING).map(|seed| ask(&daemon, seed));
    let _unread: Vec<UnixStream> = asked.collect();
    let mut most = before;
    let all_drawn = wait::until(2 * PATIENCE, || {
        most = most.max(resident(daemon.pid()));
        daemon.status().queue.is_empty()
    });
    assert!(all_drawn, "they are drawn");
    let (gone, within) = wait::timed(|| {
        wait::until(PATIENCE, || {
            most = most.max(resident(daemon.pid()));
            processes::descriptors(daemon.pid()).len() <= held
        })
    });
    println!("resident: {before} KiB before, {most} KiB at most; gone within {within:?}");
    assert!(most < before + UNREAD_KIB, "{before} KiB, then {most} KiB");
    assert!(gone && within < Duration::from_secs(15), "{within:?}");
    slow.join().expect("the slow reader has its picture");
}

#[test]
fn unread_pictures_take_bounded_memory_and_a_slow_reader_gets_its_picture() {
    stay_bounded(large, 3 << 20);
}

#[test]
fn unread_pictures_over_http_take_bounded_memory() {
    // At least: the file is compressed, and written as text.
    stay_bounded(large_over_http, 800_000);
}

/// Jobs that wait while others are listed.
const WAITING: u64 = 990;

#[test]
fn questions_are_answered_beside_clients_that_list_many_jobs_without_pause() {
    let _turn = turn::take();
    let daemon = TestDaemon::start(&settings());
    for number in 0..WAITING / 99 {
        let wanted = ImageRequest {
            detached: true,
            count: 99,
            ..request("slow", 100, number)
        };
        daemon.client().generate(&wanted).expect("there is room");
    }
    let listed = daemon.client().jobs().expect("it serves");
    let listed: BTreeSet<_> = listed.iter().map(|job| job.job).collect();
    assert_eq!(listed.len() as u64, WAITING, "every job, once");
    for (name, question) in [
        ("jobs", ToPool::Jobs),
        ("status", ToPool::Status),
        (
            "cancel",
            ToPool::Cancel {
                job: JobId(999_999),
            },
        ),
    ] {
        let p50 = beside(&daemon, &question, name);
        assert!(p50 < Duration::from_millis(20), "{name}: {p50:?}");
    }
}

/// The median time of a status beside 8 clients that ask without pause.
fn beside(daemon: &TestDaemon, question: &ToPool, name: &str) -> Duration {
    let bytes = frame::encode(question).expect("a message").repeat(50);
    let (stop, mut floods) = (AtomicBool::new(false), Vec::new());
    thread::scope(|scope| {
        for _ in 0..8 {
            let (mut reader, stop, bytes) = (greeted(daemon), &stop, &bytes);
            let mut writer = reader.try_clone().expect("a descriptor");
            floods.push(reader.try_clone().expect("a descriptor"));
            scope.spawn(
                move || while !stop.load(Ordering::Relaxed) && writer.write_all(bytes).is_ok() {},
            );
            scope.spawn(move || {
                let mut answers = vec![0; 1 << 16];
                while reader.read(&mut answers).is_ok_and(|read| read > 0) {}
            });
        }
        wait::moments_of_chance(Duration::from_secs(1));
        let mut client = daemon.client();
        let times: SortedTimes = (0..100)
            .map(|_| wait::timed(|| client.status().expect("it serves")).1)
            .collect();
        println!("status beside {name}: {times}");
        stop.store(true, Ordering::Relaxed);
        for flood in floods {
            let _ = flood.shutdown(std::net::Shutdown::Both);
        }
        times.percentile(50)
    })
}
