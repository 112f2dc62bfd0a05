//! A shared machine: users with quotas, and other programs on the same GPU.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use ipc_protocol::failure::FailureKind;
use ipc_protocol::status::WorkerState;
use tests::daemon::TestDaemon;
use tests::gpus::{self, PretendedGpus};
use tests::job::request;
use tests::sandbox::Sandbox;
use tests::wait;

const PATIENCE: Duration = Duration::from_secs(60);
const SYNTHETIC: &str = "[models.syn]\nfamily = \"synthetic\"\n\
                         params = { step_ms = 1, load_ms = 1, weights_mb = 1 }\n";
/// Memory of the pretended GPU, and what other programs hold of it: the model does not fit beside them.
const TOTAL_MB: u64 = 1000;
const FOREIGN_MB: u64 = 900;

#[test]
fn a_full_quota_names_the_time_at_which_it_opens_again() {
    let quota = "[users.\"*\"]\njobs_per_hour = 2\n";
    let daemon = TestDaemon::start(&format!("{SYNTHETIC}{quota}"));
    let draw = |seed: &str| {
        let words = [
            "generate",
            "x",
            "-m",
            "syn",
            "-f",
            "-o",
            "/dev/null",
            "--seed",
            seed,
        ];
        daemon.imagepool(&words)
    };
    draw("1").succeeded();
    draw("2").succeeded();
    let refused = draw("3").ended_with(75);
    let text = &refused.stderr;
    assert!(
        text.contains("had 2 of 2 jobs within the last hour"),
        "{text}"
    );
    assert!(text.contains("open again in 3"), "{text}");
    let body = serde_json::json!({"prompt": "x", "model": "syn"});
    let reply = daemon.http().post("/v1/images/generations", &body);
    assert_eq!(reply.status, 429);
    assert_eq!(reply.json()["error"]["code"], "quota_exceeded");
    let seconds = reply.header("retry-after").expect("when to try again");
    assert!(seconds.parse::<u64>().expect("seconds") > 3000, "{seconds}");
}

#[test]
fn memory_of_idle_workers_is_left_to_other_programs_for_a_while() {
    let daemon = TestDaemon::start(&format!("{SYNTHETIC}pinned = true\n"));
    let is_up = || {
        daemon
            .status()
            .workers
            .iter()
            .any(|it| it.state == WorkerState::Running)
    };
    assert!(wait::until(PATIENCE, is_up));
    let told = daemon.imagepool(&["yield", "600"]).succeeded();
    assert!(
        told.text()
            .starts_with("Yielding for 600 s: 1 worker leaves"),
        "{}",
        told.text()
    );
    assert!(wait::until(PATIENCE, || daemon.status().workers.is_empty()));
    let status = daemon.imagepool(&["status"]);
    assert!(status.text().contains("YIELDING"), "{}", status.text());
    let unready = daemon.http().get("/ready");
    assert_eq!(unready.status, 503);
    assert!(
        unready.text().contains("leaves its memory"),
        "{}",
        unready.text()
    );
    let waiting = daemon.imagepool_begun(&["generate", "x", "-m", "syn", "-f", "-o", "/dev/null"]);
    assert!(wait::until(PATIENCE, || daemon.status().queue.len() == 1));
    assert!(daemon.status().workers.is_empty());
    let told = daemon.imagepool(&["yield", "0"]).succeeded();
    assert_eq!(told.text(), "Serving again\n");
    waiting.output().succeeded();
}

/// A daemon with one pretended GPU, of which other programs hold most, and these lines of `[truce]`.
fn shared_gpu(truce: &str) -> (TestDaemon, PretendedGpus) {
    let settings = format!(
        "{}[pool]\nidle_seconds = 0.1\ncold_start_workers = 1\n[truce]\n{truce}\n[models.syn]\nfamily = \"synthetic\"\n\
         params = {{ step_ms = 1, load_ms = 1, weights_mb = 1, device_mb = 300 }}\n\
         device = \"cuda:0\"\n",
        gpus::settings()
    );
    let sandbox = Sandbox::with_hostile_worker(&settings);
    let gpus = PretendedGpus::of(&sandbox, &[TOTAL_MB]);
    gpus.change(|state| state.gpus[0].foreign_mb = FOREIGN_MB);
    (TestDaemon::start_in(sandbox), gpus)
}

/// Answers one request per entry of `answers` at a free port, after `between` ran with its number; gives the address and
/// the requests.
fn other_program(
    count: usize,
    between: impl Fn(usize) + Send + 'static,
) -> (String, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("it listens"));
    let serving = thread::spawn(move || {
        let mut requests = Vec::new();
        for nth in 0..count {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut text = vec![0; 4096];
            let read = stream.read(&mut text).expect("a request");
            requests.push(String::from_utf8_lossy(&text[..read]).into_owned());
            between(nth);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(answer).expect("it listens");
        }
        requests
    });
    (address, serving)
}

#[test]
fn other_programs_are_asked_for_a_gpu_and_get_it_back() {
    let sandbox_gpus: std::sync::Arc<std::sync::OnceLock<PretendedGpus>> =
        std::sync::Arc::default();
    let shared = std::sync::Arc::clone(&sandbox_gpus);
    let (address, serving) = other_program(2, move |nth| {
        // It leaves when it is asked, and comes back when it is told.
        let foreign = [0, FOREIGN_MB][nth];
        shared
            .wait()
            .change(|state| state.gpus[0].foreign_mb = foreign);
    });
    let (daemon, gpus) = shared_gpu(&format!(
        "before_load_url = \"{address}/leave\"\nbefore_load_body = '{{\"keep_alive\": 0}}'\n\
         after_last_url = \"{address}/back\"\n"
    ));
    assert!(sandbox_gpus.set(gpus).is_ok());
    daemon
        .draw(&request("syn", 1, 1))
        .expect("the other program left");
    let spawned = daemon.stderr.with("Spawned worker");
    assert!(spawned[0].contains("device=cuda:0"), "{spawned:?}");
    daemon
        .stderr
        .wait_for("Device is left to other programs", 1, PATIENCE);
    let requests = serving.join().expect("it was asked twice");
    assert!(requests[0].starts_with("POST /leave "), "{requests:?}");
    assert!(requests[0].ends_with("{\"keep_alive\": 0}"), "{requests:?}");
    assert!(requests[1].starts_with("POST /back "), "{requests:?}");
    daemon.stderr.wait_for("Hook ran", 2, PATIENCE);
}

#[test]
fn memory_that_another_program_keeps_is_not_promised() {
    let (daemon, _gpus) = shared_gpu(
        "before_load = [\"sh\", \"-c\", \"echo busy with $IMAGEPOOL_DEVICE >&2; exit 1\"]",
    );
    let drawn = daemon.draw(&request("syn", 1, 1));
    let refused = drawn.map(drop).expect_err("there is no room");
    assert_eq!(refused.kind, FailureKind::MemoryExhausted);
    assert!(
        refused.message.starts_with("Cannot spawn workers for syn"),
        "{refused:?}"
    );
    let failed = daemon.stderr.wait_for("Hook failed", 1, PATIENCE);
    assert!(failed.contains("busy with cuda:0"), "{failed:?}");
    assert!(daemon.stderr.with("Spawned worker").is_empty());
}
