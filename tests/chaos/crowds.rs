//! Crowds of clients that are silent, slow or never read: all others are served, and the crowd goes.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use ipc_protocol::client::Client;
use ipc_protocol::frame;
use ipc_protocol::messages::client::ToPool;
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::PictureSize;
use ipc_protocol::version::PROTOCOL;
use nix::sys::signal::Signal;
use tests::daemon::TestDaemon;
use tests::figures::ProcessFigures;
use tests::job::{draw, request};
use tests::program::PATIENCE;
use tests::times::SortedTimes;
use tests::{rounds, turn, wait};

const SETTINGS: &str = "[pool]\nqueue_per_model = 1000\nmax_workers_per_model = 2\n\
    [models.good]\nfamily = \"synthetic\"\nmin_workers = 1\nmax_workers = 1\nparams = { step_ms = 4, load_ms = 1, weights_mb = 1 }\n\
    [models.crowded]\nfamily = \"synthetic\"\nmin_workers = 2\nparams = { step_ms = 200, load_ms = 1, weights_mb = 1 }\n";
/// Workers of these models, kept.
const WORKERS: usize = 3;
/// Clients of each kind.
const CROWD: u32 = 200;
/// Pictures and looks at `status` of which 99 in 100 are within a time.
const PICTURES: usize = 100;
const LOOKS: usize = 200;
/// Beyond what a busy machine adds, each of these is a crowd's doing.
const PICTURE_MAX: Duration = Duration::from_secs(1);
const STATUS_MAX: Duration = Duration::from_millis(250);
const GONE_MAX: Duration = Duration::from_secs(60);
const END_MAX: Duration = Duration::from_secs(20);
const GAINED_KIB_MAX: u64 = 256 * 1024;

/// How each client of a crowd behaves.
#[derive(Debug, Clone, Copy)]
enum CrowdHabit {
    /// Says nothing.
    Silent,
    /// Says the beginning of a message.
    HalfSaid,
    /// Says a message a byte at a time.
    Slow,
    /// Asks for a large picture and never reads.
    NeverReads,
}

const ALL: [CrowdHabit; 4] = [
    CrowdHabit::Silent,
    CrowdHabit::HalfSaid,
    CrowdHabit::Slow,
    CrowdHabit::NeverReads,
];

fn large() -> ImageRequest {
    ImageRequest {
        size: Some(PictureSize {
            width: 1024,
            height: 1024,
        }),
        ..request("crowded", 1, 1)
    }
}

/// The bytes of one request, on the native socket or on that of HTTP.
fn message(http: bool) -> Vec<u8> {
    if http {
        let body = "{\"prompt\":\"x\",\"model\":\"crowded\",\"steps\":1,\"size\":\"1024x1024\"}";
        let head =
            "POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
        return format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes();
    }
    let encoded = |message: ToPool| frame::encode(&message).expect("a frame");
    let hello = encoded(ToPool::Hello { protocol: PROTOCOL });
    [hello, encoded(ToPool::Generate(large()))].concat()
}

/// Brings a crowd to a socket; returns its connections. A door may refuse some of them.
fn gather(crowd: CrowdHabit, socket: &Path, http: bool, count: u32) -> Vec<UnixStream> {
    let message = message(http);
    let connected = (0..count).filter_map(|_| UnixStream::connect(socket).ok());
    let mut clients: Vec<UnixStream> = connected.collect();
    let said = match crowd {
        CrowdHabit::Silent => &message[..0],
        CrowdHabit::HalfSaid => &message[..message.len() - 7],
        CrowdHabit::Slow => &message[..1],
        CrowdHabit::NeverReads => &message[..],
    };
    for client in &mut clients {
        // The door may have closed already.
        let _ = client.write_all(said);
    }
    clients
}

/// Goes on with messages a byte at a time, as long as any client is listened to.
fn drip(mut clients: Vec<UnixStream>, http: bool) {
    for byte in message(http).into_iter().skip(1) {
        clients.retain_mut(|client| client.write_all(&[byte]).is_ok());
        if clients.is_empty() {
            return;
        }
        wait::moments_of_chance(Duration::from_millis(500));
    }
}

/// The times that 99 of 100 pictures and looks at `status` stay within.
fn healthy(client: &mut Client) -> (Duration, Duration) {
    let wanted = request("good", 5, 3);
    let pictures = (0..PICTURES).map(|_| {
        let (picture, took) = wait::timed(|| draw(client, &wanted, |_, _| {}));
        picture.expect("a good request");
        took
    });
    let pictures: SortedTimes = pictures.collect();
    let looks = (0..LOOKS).map(|_| wait::timed(|| client.status().expect("it serves")).1);
    let looks: SortedTimes = looks.collect();
    (pictures.percentile(99), looks.percentile(99))
}

fn figures(daemon: &TestDaemon) -> ProcessFigures {
    ProcessFigures::of(daemon.pid()).expect("it lives")
}

#[test]
fn crowds_that_are_silent_slow_or_deaf_cost_no_other_its_picture_and_go() {
    let count = rounds::rounds("clients of each kind on each socket", CROWD);
    for crowd in ALL {
        let _turn = turn::take();
        let mut daemon = TestDaemon::start(SETTINGS);
        daemon.stderr.wait_for("Worker ready", WORKERS, PATIENCE);
        let mut client = daemon.client();
        let calm = healthy(&mut client);
        let before = figures(&daemon);
        let sockets = [
            (daemon.sandbox.socket(), false),
            (daemon.sandbox.runtime_dir().join("http.sock"), true),
        ];
        let crowds = sockets.map(|(socket, http)| (gather(crowd, &socket, http, count), http));
        let there = figures(&daemon);
        let mut held = Vec::new();
        let drips: Vec<_> = crowds
            .into_iter()
            .filter_map(|(clients, http)| match crowd {
                CrowdHabit::Slow => Some(thread::spawn(move || drip(clients, http))),
                CrowdHabit::Silent | CrowdHabit::HalfSaid | CrowdHabit::NeverReads => {
                    held.push(clients);
                    None
                }
            })
            .collect();
        let amid = healthy(&mut client);
        let mut most_kib = figures(&daemon).resident_kib;
        // Who has not been drawn for yet has nothing that could go unread.
        let drawn = || {
            most_kib = most_kib.max(figures(&daemon).resident_kib);
            client.status().expect("it serves").queue.is_empty()
        };
        assert!(wait::until(PATIENCE, drawn), "jobs are left");
        let began = wait::Stopwatch::start();
        let gone = wait::until(GONE_MAX, || {
            let now = figures(&daemon);
            most_kib = most_kib.max(now.resident_kib);
            now.descriptors <= before.descriptors + 2
        });
        let went = began.passed();
        let left = figures(&daemon)
            .descriptors
            .saturating_sub(before.descriptors);
        daemon.signal(Signal::SIGTERM);
        let (status, ended) = wait::timed(|| daemon.wait());
        println!(
            "{crowd:?}: {} descriptors more, picture p99 {:?} (calm {:?}), status p99 {:?} (calm {:?}), memory {} KiB + {} KiB, \
             {left} descriptors more after {went:?}, SIGTERM {ended:?}",
            there.descriptors.saturating_sub(before.descriptors),
            amid.0,
            calm.0,
            amid.1,
            calm.1,
            before.resident_kib,
            most_kib.saturating_sub(before.resident_kib),
        );
        assert!(status.success(), "{status}");
        assert!(ended < END_MAX, "{ended:?}");
        assert!(amid.0 < PICTURE_MAX.max(calm.0 * 5), "{:?}", amid.0);
        assert!(amid.1 < STATUS_MAX.max(calm.1 * 5), "{:?}", amid.1);
        assert!(
            most_kib < before.resident_kib + GAINED_KIB_MAX,
            "{most_kib} KiB"
        );
        assert!(gone, "{left} of {crowd:?} are there after {went:?}");
        drop(held);
        for drip in drips {
            drip.join().expect("it writes");
        }
    }
}

/// A daemon with few descriptors draws, although idle clients hold the others.
#[test]
fn sixty_idlers_at_64_descriptors_cost_no_other_its_picture() {
    let _turn = turn::take();
    let daemon = TestDaemon::start_with_open_files(SETTINGS, 64);
    let wanted = request("good", 5, 3);
    let undisturbed = daemon.draw(&wanted).expect("a good request");
    let hello = frame::encode(&ToPool::Hello { protocol: PROTOCOL }).expect("a frame");
    let idlers: Vec<UnixStream> = (0..60)
        .filter_map(|_| UnixStream::connect(daemon.sandbox.socket()).ok())
        .map(|mut idler| {
            // The door may have closed already.
            let _ = idler.write_all(&hello);
            idler
        })
        .collect();
    let mut refused = 0;
    let drawn = wait::until_found(GONE_MAX, || {
        // As the command does: another try when the door says that it is full.
        let client = Client::connect(&daemon.sandbox.socket());
        refused += u32::from(client.is_err());
        let mut client = client.ok()?;
        Some(draw(&mut client, &wanted, |_, _| {}))
    });
    let picture = drawn
        .expect("the door has room again")
        .expect("an accepted job is drawn");
    assert!(picture.rgb8 == undisturbed.rgb8);
    println!("{} idlers; drawn after {refused} refusals", idlers.len());
}
