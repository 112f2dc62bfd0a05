//! Many clients of the HTTP door at once: every job ends once, and memory comes back.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use tests::chance::Chance;
use tests::daemon::TestDaemon;
use tests::figures;
use tests::program::PATIENCE;
use tests::wait;

const CLIENTS: usize = 500;
/// One client in this number reads slowly, and another one leaves midway.
const EVERY: usize = 25;
const SETTINGS: &str = "[pool]\ncold_start_workers = 2\nmax_workers_per_model = 2\nqueue_per_model = 2000\nqueue_total = 2000\n\
    [models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 2, load_ms = 1, weights_mb = 1 }\n";

/// How a client behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    Reads,
    Streams,
    ReadsSlowly,
    LeavesMidway,
}

impl Habit {
    fn of(nth: usize) -> Self {
        match nth % EVERY {
            0 => Self::ReadsSlowly,
            1 => Self::LeavesMidway,
            nth if nth % 2 == 0 => Self::Streams,
            _ => Self::Reads,
        }
    }
}

/// Sends a request and reads its answer as `habit` says; returns the answer of a client that stays.
fn converse(socket: &Path, habit: Habit, seed: u64, delay: Duration) -> Option<String> {
    let stream = habit == Habit::Streams;
    let body = format!(
        "{{\"prompt\":\"x\",\"model\":\"syn\",\"steps\":4,\"size\":\"256x256\",\"seed\":{seed},\"stream\":{stream},\"partial_images\":2}}"
    );
    let mut socket = UnixStream::connect(socket).expect("the door is open");
    let head = format!(
        "POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(head.as_bytes()).expect("it is read");
    if habit == Habit::LeavesMidway {
        wait::moments_of_chance(delay);
        return None;
    }
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match socket.read(&mut buffer).expect("the door answers") {
            0 => break,
            count => answer.extend_from_slice(&buffer[..count]),
        }
        if habit == Habit::ReadsSlowly {
            wait::moments_of_chance(Duration::from_millis(5));
        }
    }
    Some(String::from_utf8(answer).expect("JSON and events are text"))
}

/// The daemon's resident memory, in KiB.
fn resident_kib(daemon: &TestDaemon) -> u64 {
    figures::resident_kib(daemon.pid()).expect("it runs")
}

fn round(socket: &Path, chance: &mut Chance) -> usize {
    let clients: Vec<_> = (0..CLIENTS)
        .map(|nth| {
            let (socket, habit) = (socket.to_owned(), Habit::of(nth));
            let delay = Duration::from_millis(chance.below(300));
            thread::spawn(move || (habit, converse(&socket, habit, nth as u64, delay)))
        })
        .collect();
    let mut stayed = 0;
    for client in clients {
        let (habit, answer) = client.join().expect("no client panics");
        let Some(answer) = answer else { continue };
        stayed += 1;
        assert!(
            answer.starts_with("HTTP/1.1 200"),
            "{habit:?}: {}",
            &answer[..answer.len().min(300)]
        );
        let finished = match habit {
            Habit::Streams => answer.matches("event: image_generation.completed").count(),
            _ => answer.matches("\"b64_json\"").count(),
        };
        assert_eq!(finished, 1, "{habit:?}");
    }
    stayed
}

#[test]
fn every_job_of_500_clients_ends_once_and_memory_comes_back() {
    let mut chance = Chance::new(15);
    let daemon = TestDaemon::start(SETTINGS);
    let socket = daemon.sandbox.runtime_dir().join("http.sock");
    // Two rounds bring threads, buffers and the list of ended jobs to their usual size.
    let mut stayed = round(&socket, &mut chance) + round(&socket, &mut chance);
    let nothing_left = || daemon.status().queue.is_empty();
    assert!(
        wait::until(PATIENCE, nothing_left),
        "{:?}",
        daemon.status().queue
    );
    let before = resident_kib(&daemon);
    stayed += round(&socket, &mut chance);
    assert!(
        wait::until(PATIENCE, nothing_left),
        "{:?}",
        daemon.status().queue
    );
    let back = wait::until(PATIENCE, || resident_kib(&daemon) <= before + before / 10);
    let after = resident_kib(&daemon);
    println!("memory: {before} KiB after two rounds, {after} KiB after the third");
    assert!(back, "{before} KiB, then {after} KiB");
    let count = |words: &str| daemon.stderr.with(words).len();
    let (accepted, finished) = (count("Job accepted"), count("Job finished"));
    let others = count("Job cancelled") + count("Job failed");
    println!(
        "jobs: {accepted} accepted, {finished} finished, {others} cancelled; {stayed} clients stayed"
    );
    assert_eq!(accepted, finished + others);
    assert!(finished >= stayed, "who stays has a picture");
    assert_eq!(stayed, 3 * (CLIENTS - CLIENTS / EVERY));
}
