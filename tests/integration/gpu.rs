//! GPUs are in the books as their driver measures them, and a fault on one costs no other worker.
//!
//! The GPUs are pretended: `tests/stand-in-gpu` is the driver's library, and the hostile worker takes memory there before
//! it becomes the honest worker.

use std::time::Duration;

use ipc_protocol::failure::FailureKind;
use ipc_protocol::ids::{Device, DeviceConstraint};
use ipc_protocol::request::ImageRequest;
use ipc_protocol::status::{DeviceState, MemoryStatus};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::daemon::TestDaemon;
use tests::gpus::{self, PretendedGpus};
use tests::job::request;
use tests::sandbox::Sandbox;
use tests::{turn, wait};

const PATIENCE: Duration = Duration::from_secs(60);
/// Memory that a worker of each model takes on its GPU, and a picture of the default size beside it.
const HELD_MB: u64 = 300;
const NEED_MB: u64 = HELD_MB + 3;
/// Longer than a measurement counts.
const AGED: Duration = Duration::from_millis(5300);

/// A daemon with pretended GPUs of these sizes. `model` are further lines of the models `left` and `right`.
fn daemon(sizes: &[u64], pool: &str, model: [&str; 2]) -> (TestDaemon, PretendedGpus) {
    let sandbox = Sandbox::with_hostile_worker(&settings(pool, model));
    let gpus = PretendedGpus::of(&sandbox, sizes);
    (TestDaemon::start_in(sandbox), gpus)
}

fn settings(pool: &str, model: [&str; 2]) -> String {
    let params = format!("{{ step_ms = 20, load_ms = 20, weights_mb = 1, device_mb = {HELD_MB} }}");
    let models = ["left", "right"].into_iter().zip(model);
    let models: String = models
        .map(|(key, more)| {
            format!("[models.{key}]\nfamily = \"synthetic\"\nparams = {params}\n{more}\n")
        })
        .collect();
    format!("{}[pool]\n{pool}\n{models}", gpus::settings())
}

fn book(daemon: &TestDaemon, device: &str) -> MemoryStatus {
    let memory = daemon.status().memory;
    let book = memory.into_iter().find(|book| book.device == device);
    book.expect("its GPUs are in the books")
}

fn state(daemon: &TestDaemon, nth: usize) -> DeviceState {
    daemon.status().devices[nth].state
}

fn on(device: u32, wanted: ImageRequest) -> ImageRequest {
    ImageRequest {
        device: DeviceConstraint::On(Device::Cuda(device)),
        ..wanted
    }
}

/// The books of every GPU say what is on it.
fn books_are_true(daemon: &TestDaemon, gpus: &PretendedGpus) -> bool {
    let memory = daemon.status().memory;
    let truth = gpus.read();
    truth.gpus.iter().enumerate().all(|(nth, gpu)| {
        let device = format!("cuda:{nth}");
        let book = memory.iter().find(|book| book.device == device);
        let book = book.expect("its GPUs are in the books");
        let ours: u64 = gpu.held.iter().map(|held| held.mb).sum();
        let measured = (book.measured_mb, book.foreign_mb);
        measured == (Some(ours), Some(gpu.foreign_mb))
            && book.reserved_mb >= ours
            && book.settling_mb == 0
    })
}

fn kill_worker(pid: u32) {
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).expect("our own worker");
}

#[test]
fn workers_are_placed_on_gpus_and_the_books_are_the_drivers() {
    let _turn = turn::take();
    let (daemon, gpus) = daemon(&[1000, 1000], "", ["", ""]);
    gpus.change(|state| state.gpus[1].foreign_mb = 100);
    for (seed, model) in (1..).zip(["left", "right", "left"]) {
        daemon
            .draw(&request(model, 3, seed))
            .expect("there is room");
    }
    let spawned = daemon.stderr.with("Spawned worker");
    assert_eq!(spawned.len(), 4, "{spawned:?}");
    assert!(
        spawned.iter().all(|line| line.contains("device=cuda:")),
        "{spawned:?}"
    );
    let agree = wait::until(PATIENCE, || books_are_true(&daemon, &gpus));
    assert!(agree, "{:?} {:?}", daemon.status().memory, gpus.read());
    assert!(gpus.read().gpus.iter().all(|gpu| gpu.held.len() == 2));
    daemon.imagepool(&["stop", "all"]).succeeded();
    let empty = wait::until(PATIENCE, || {
        books_are_true(&daemon, &gpus) && book(&daemon, "cuda:0").reserved_mb == 0
    });
    assert!(empty, "{:?}", daemon.status().memory);
}

#[test]
fn gpus_are_in_the_status_and_in_the_plan() {
    let (daemon, _gpus) = daemon(&[1000, 2000], "", ["", "device = \"cuda:7\""]);
    let status = daemon.imagepool(&["status", "--json"]).succeeded().json();
    let gpu = &status[0]["devices"][1];
    assert_eq!(gpu["device"], "cuda:1");
    assert_eq!(gpu["uuid"], "GPU-0001");
    assert_eq!(
        (&gpu["name"], &gpu["total_mb"]),
        (&"Stand-in 1".into(), &2000.into())
    );
    assert_eq!(gpu["driver"], "999.1");
    let book = &status[0]["memory"][2];
    assert_eq!(book["device"], "cuda:1");
    assert_eq!(
        (&book["limit_mb"], &book["foreign_mb"]),
        (&1600.into(), &0.into())
    );
    let lines = daemon.imagepool(&["status"]).succeeded();
    let lines = String::from_utf8_lossy(&lines.stdout).into_owned();
    let line = "Stand-in 1, 0/1600 MB reserved, 0 MB measured, 0 MB of others, 41 °C";
    let gpu = lines.lines().find(|line| line.starts_with("cuda:1 "));
    assert!(gpu.is_some_and(|gpu| gpu.contains(line)), "{lines}");
    let plan = daemon.imagepool(&["plan", "left"]).succeeded();
    let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
    let line = format!("on cuda:1: {NEED_MB} MB of cuda:1 to be resident");
    assert!(plan.contains(&line), "{plan}");
    let found = daemon.stderr.with("GPU found: Stand-in 0");
    assert!(found[0].contains("limit_mb=800"), "{found:?}");
}

#[test]
fn a_device_that_there_is_not_is_refused_by_name() {
    let (daemon, _gpus) = daemon(&[1000], "", ["", "device = \"cuda:7\""]);
    let refused = daemon
        .draw(&on(5, request("left", 1, 1)))
        .expect_err("one GPU");
    assert_eq!(refused.message, "there is no cuda:5 here");
    let refused = daemon.draw(&request("right", 1, 1)).expect_err("one GPU");
    let sentence = "no device that is usable now can run right; its settings name cuda:7, and \
                    there is no cuda:7 here";
    assert_eq!(refused.message, sentence);
}

#[test]
fn cuda_visible_devices_selects_and_numbers_the_gpus() {
    let sandbox = Sandbox::behind(
        "supervisor",
        "export CUDA_VISIBLE_DEVICES=GPU-0002,0",
        &settings("", ["", ""]),
    );
    PretendedGpus::of(&sandbox, &[1000, 2000, 3000]);
    let daemon = TestDaemon::start_in(sandbox);
    let devices = daemon.status().devices;
    let uuids: Vec<&str> = devices.iter().map(|gpu| gpu.uuid.as_str()).collect();
    assert_eq!(uuids, ["GPU-0002", "GPU-0000"]);
    assert_eq!(book(&daemon, "cuda:0").limit_mb, 2400);
}

#[test]
fn memory_of_other_programs_is_never_promised() {
    let _turn = turn::take();
    let cuda = "device = \"cuda:0\"";
    let sandbox = Sandbox::with_hostile_worker(&settings("cold_start_workers = 1", [cuda, cuda]));
    let gpus = PretendedGpus::of(&sandbox, &[1000]);
    gpus.change(|state| state.gpus[0].foreign_mb = 900);
    let daemon = TestDaemon::start_in(sandbox);
    let refused = daemon
        .draw(&request("left", 1, 1))
        .expect_err("others have it");
    let sentence =
        format!("Cannot spawn workers for left. Need {NEED_MB} MB, only 100 MB available");
    assert_eq!(refused.message, sentence);
    // It is given back, which the next measurement shows; that is taken when the last one is too old.
    gpus.change(|state| state.gpus[0].foreign_mb = 0);
    wait::moments_of_chance(AGED);
    daemon
        .draw(&request("left", 1, 2))
        .expect("it is measured again");
    // It grows while a worker is there: for the other model the idle worker has to leave.
    gpus.change(|state| state.gpus[0].foreign_mb = 600);
    assert!(wait::until(PATIENCE, || books_are_true(&daemon, &gpus)));
    daemon
        .draw(&request("right", 1, 3))
        .expect("the idle worker leaves");
    let truth = gpus.read();
    assert_eq!(truth.gpus[0].held.len(), 1, "{truth:?}");
    assert_eq!(daemon.status().counters.evictions, 1);
}

#[test]
fn where_the_driver_lists_no_process_the_books_follow_what_is_taken_in_all() {
    let _turn = turn::take();
    let sandbox = Sandbox::with_hostile_worker(&settings("cold_start_workers = 1", ["", ""]));
    let gpus = PretendedGpus::of(&sandbox, &[1000]);
    gpus.change(|state| {
        state.hide = true;
        state.gpus[0].foreign_mb = 200;
    });
    let daemon = TestDaemon::start_in(sandbox);
    daemon.draw(&request("left", 1, 1)).expect("there is room");
    let agree = wait::until(PATIENCE, || books_are_true(&daemon, &gpus));
    assert!(agree, "{:?}", daemon.status().memory);
    daemon.worker_pids().into_iter().for_each(kill_worker);
    let empty = wait::until(PATIENCE, || {
        books_are_true(&daemon, &gpus) && book(&daemon, "cuda:0").reserved_mb == 0
    });
    assert!(empty, "{:?}", daemon.status().memory);
}

/// A daemon whose only worker has died on a GPU that does not free its memory yet.
fn dead_worker_whose_memory_lingers() -> (TestDaemon, PretendedGpus) {
    let cuda = "device = \"cuda:0\"";
    let (daemon, gpus) = daemon(&[500], "cold_start_workers = 1", [cuda, cuda]);
    daemon.draw(&request("left", 1, 1)).expect("there is room");
    assert!(wait::until(PATIENCE, || books_are_true(&daemon, &gpus)));
    gpus.change(|state| state.linger = true);
    daemon.worker_pids().into_iter().for_each(kill_worker);
    (daemon, gpus)
}

#[test]
fn memory_that_comes_back_late_is_promised_late() {
    let _turn = turn::take();
    let (daemon, gpus) = dead_worker_whose_memory_lingers();
    let settling = wait::until(PATIENCE, || book(&daemon, "cuda:0").settling_mb >= HELD_MB);
    assert!(settling, "{:?}", daemon.status());
    let begun = daemon.imagepool_begun(&["generate", "a fox", "-m", "right", "-o", "a.png"]);
    wait::moments_of_chance(Duration::from_secs(1));
    assert_eq!(daemon.stderr.with("Spawned worker").len(), 1);
    gpus.change(|state| state.linger = false);
    begun.output().succeeded();
    assert!(wait::until(PATIENCE, || books_are_true(&daemon, &gpus)));
    assert!(daemon.stderr.with("still in use").is_empty());
}

#[test]
fn memory_that_does_not_come_back_is_reported_and_stays_out_of_the_books() {
    let _turn = turn::take();
    let (daemon, gpus) = dead_worker_whose_memory_lingers();
    daemon
        .stderr
        .wait_for("Memory of a dead worker is still in use", 1, PATIENCE);
    let lost = book(&daemon, "cuda:0");
    assert_eq!(
        (lost.reserved_mb, lost.settling_mb),
        (0, HELD_MB),
        "{lost:?}"
    );
    assert_eq!((lost.measured_mb, lost.foreign_mb), (Some(0), Some(0)));
    let refused = daemon
        .draw(&request("right", 1, 2))
        .expect_err("it is not back");
    let left = 400 - HELD_MB;
    let sentence =
        format!("Cannot spawn workers for right. Need {NEED_MB} MB, only {left} MB available");
    assert_eq!(refused.message, sentence);
    gpus.change(|state| state.linger = false);
    assert!(wait::until(PATIENCE, || books_are_true(&daemon, &gpus)));
    daemon
        .draw(&request("right", 1, 3))
        .expect("it is back at last");
}

#[test]
fn a_driver_that_hangs_stops_new_promises_and_nothing_else() {
    let _turn = turn::take();
    let (daemon, gpus) = daemon(&[1000], "cold_start_workers = 1", ["", ""]);
    daemon.draw(&request("left", 1, 1)).expect("there is room");
    gpus.change(|state| state.hang = true);
    assert!(wait::until(PATIENCE, || state(&daemon, 0) == DeviceState::Unmeasured));
    daemon
        .draw(&request("left", 5, 2))
        .expect("its worker has its memory");
    let wanted = on(0, request("right", 1, 3));
    let begun = std::thread::scope(|scope| {
        let begun = scope.spawn(|| daemon.draw(&wanted));
        let waits = wait::until_found(PATIENCE, || daemon.status().queue.pop());
        wait::moments_of_chance(Duration::from_secs(1));
        assert_eq!(daemon.stderr.with("Spawned worker").len(), 1, "{waits:?}");
        let told = daemon.stderr.with("GPU driver does not answer");
        assert!(told[0].contains("no answer within 3 s"), "{told:?}");
        gpus.change(|state| state.hang = false);
        begun.join().expect("it does not panic")
    });
    begun.expect("the driver answers again");
    assert!(wait::until(PATIENCE, || books_are_true(&daemon, &gpus)));
    assert_eq!(state(&daemon, 0), DeviceState::Ready);
}

#[test]
fn a_driver_that_hangs_outlives_no_daemon() {
    let _turn = turn::take();
    let (daemon, gpus) = daemon(&[1000], "cold_start_workers = 1", ["", ""]);
    daemon.draw(&request("left", 1, 1)).expect("there is room");
    gpus.change(|state| state.hang = true);
    let probes = || {
        let processes = daemon.sandbox.processes().into_iter();
        let asks = |process: &tests::processes::Process| {
            process.arguments.iter().any(|word| word == "--probe-gpus")
        };
        processes.filter(asks).count()
    };
    assert!(wait::until(PATIENCE, || probes() > 0));
    daemon.kill(Duration::from_secs(2));
}

#[test]
fn a_gpu_that_vanishes_is_lost_with_its_reason_and_the_other_serves() {
    let _turn = turn::take();
    let models = ["device = \"cuda:0\"", "device = \"cuda:1\""];
    let (daemon, gpus) = daemon(&[1000, 1000], "cold_start_workers = 1", models);
    for model in ["left", "right"] {
        daemon.draw(&request(model, 1, 1)).expect("there is room");
    }
    gpus.change(|state| state.gpus[0].is_gone = true);
    assert!(wait::until(PATIENCE, || state(&daemon, 0) == DeviceState::Lost));
    let status = daemon.status();
    let left = status
        .workers
        .iter()
        .find(|worker| worker.device == "cuda:0");
    kill_worker(left.and_then(|worker| worker.pid).expect("it runs"));
    let gone = || {
        daemon
            .status()
            .workers
            .iter()
            .all(|worker| worker.device == "cuda:1")
    };
    assert!(wait::until(PATIENCE, gone));
    let refused = daemon
        .draw(&request("left", 1, 2))
        .expect_err("its GPU is gone");
    let begin =
        "no device that is usable now can run left; cuda:0 is lost: GPU 0: device fell off the bus";
    assert!(refused.message.starts_with(begin), "{refused:?}");
    assert_eq!(refused.kind, FailureKind::MemoryExhausted);
    let told = daemon.stderr.with("Device lost");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(state(&daemon, 1), DeviceState::Ready);
    daemon
        .draw(&request("right", 1, 3))
        .expect("the other GPU is there");
    assert_eq!(daemon.stderr.with("Spawned worker").len(), 2);
    gpus.change(|state| state.gpus[0].is_gone = false);
    daemon.stderr.wait_for("Device is used again", 1, PATIENCE);
    daemon.draw(&request("left", 1, 4)).expect("it is back");
}

#[test]
fn a_gpu_that_fails_for_two_models_rests_and_their_jobs_run_on_the_other() {
    let _turn = turn::take();
    let (daemon, gpus) = daemon(&[2000, 1000], "cold_start_workers = 1", ["", ""]);
    gpus.change(|state| state.gpus[0].exit_code = Some(81));
    let (left, right) = (request("left", 1, 1), request("right", 1, 2));
    let drawn = std::thread::scope(|scope| {
        let both = [&left, &right].map(|wanted| scope.spawn(|| daemon.draw(wanted)));
        both.map(|drawn| drawn.join().expect("it does not panic"))
    });
    assert!(drawn.iter().all(Result::is_ok), "{drawn:?}");
    let told = daemon.stderr.with("Device rests");
    assert_eq!(told.len(), 1, "{told:?}");
    let reason = "workers of 2 models lost their context there";
    assert!(told[0].contains(reason), "{told:?}");
    let status = daemon.status();
    assert_eq!(status.devices[0].state, DeviceState::Resting);
    assert!(
        status.devices[0]
            .reason
            .as_ref()
            .is_some_and(|why| why.contains(reason))
    );
    assert!(
        status
            .workers
            .iter()
            .all(|worker| worker.device == "cuda:1")
    );
}
