//! Two pretended GPUs that fail at moments of chance: no memory is promised twice, and no job is lost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ipc_protocol::failure::FailureKind;
use ipc_protocol::ids::{Device, DeviceConstraint, Generation};
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::Mebibytes;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pool::{Action, Event};
use tests::chance::Chance;
use tests::daemon::TestDaemon;
use tests::gpus::{self, PretendedGpus};
use tests::job::request;
use tests::record::EventRecord;
use tests::sandbox::Sandbox;
use tests::{rounds, turn, wait};

const PATIENCE: Duration = Duration::from_secs(60);
const MODELS: [&str; 2] = ["left", "right"];
const SIZES: [u64; 2] = [1000, 1200];

fn settings() -> String {
    let model = "family = \"synthetic\"\nmax_workers = 2\nparams = { step_ms = 15, load_ms = 30, \
                 weights_mb = 1, device_mb = 300 }\n";
    let models = MODELS
        .map(|key| format!("[models.{key}]\n{model}"))
        .concat();
    let pool = "[pool]\nidle_seconds = 1\ngrow_after_seconds = 0.1\n";
    format!("{}{pool}{models}", gpus::settings())
}

/// One fault, or the end of one.
fn strike(chance: &mut Chance, daemon: &TestDaemon, gpus: &PretendedGpus) {
    let nth = chance.below(SIZES.len() as u64) as usize;
    if chance.below(3) == 0 {
        // Most of the time the cards work.
        mend(gpus);
    }
    match chance.below(12) {
        0..5 => {
            let pids = daemon.worker_pids();
            if let Some(&pid) = pids.get(chance.below(pids.len().max(1) as u64) as usize) {
                // It may have ended meanwhile.
                let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
            }
        }
        5..8 => {
            let wanted = chance.below(700);
            gpus.change(|state| {
                let gpu = &mut state.gpus[nth];
                let ours: u64 = gpu.held.iter().map(|held| held.mb).sum();
                gpu.foreign_mb = wanted.min(gpu.total_mb - ours);
            });
        }
        8 => gpus.change(|state| state.linger = !state.linger),
        9 => gpus.change(|state| state.hang = !state.hang),
        10 => gpus.change(|state| state.gpus[nth].is_gone = !state.gpus[nth].is_gone),
        _ => gpus.change(|state| {
            let code = state.gpus[nth].exit_code;
            state.gpus[nth].exit_code = if code.is_none() { Some(81) } else { None };
        }),
    }
}

fn mend(gpus: &PretendedGpus) {
    gpus.change(|state| {
        (state.hang, state.linger) = (false, false);
        for gpu in &mut state.gpus {
            (gpu.is_gone, gpu.exit_code, gpu.foreign_mb) = (false, None, 50);
        }
    });
}

fn books_are_true(daemon: &TestDaemon, gpus: &PretendedGpus) -> bool {
    let (memory, truth) = (daemon.status().memory, gpus.read());
    truth.gpus.iter().enumerate().all(|(nth, gpu)| {
        let mut books = memory.iter();
        let book = books.find(|book| book.device == format!("cuda:{nth}"));
        let book = book.expect("its GPUs are in the books");
        let ours: u64 = gpu.held.iter().map(|held| held.mb).sum();
        (book.measured_mb, book.foreign_mb, book.settling_mb)
            == (Some(ours), Some(gpu.foreign_mb), 0)
            && book.reserved_mb >= ours
    })
}

#[test]
fn gpus_that_fail_at_random_lose_no_job_and_no_memory_is_promised_twice() {
    let _turn = turn::take();
    let sandbox = Sandbox::with_hostile_worker(&settings());
    let gpus = PretendedGpus::of(&sandbox, &SIZES);
    let daemon = TestDaemon::start_recorded_in(sandbox);
    let mut chance = Chance::new(14);
    let over = AtomicBool::new(false);
    let (drawn, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let client = |nth: u64| {
        let mut client = daemon.client();
        for seed in 0.. {
            if over.load(Ordering::Relaxed) {
                return;
            }
            let wanted = ImageRequest {
                device: DeviceConstraint::On(Device::Cuda((seed % 2) as u32)),
                ..request(MODELS[(nth % 2) as usize], 3, seed)
            };
            // One answer each, or `draw` panics.
            match tests::job::draw(&mut client, &wanted, |_, _| {}) {
                Ok(_) => drawn.fetch_add(1, Ordering::Relaxed),
                Err(failure) => {
                    let kinds = [
                        FailureKind::MemoryExhausted,
                        FailureKind::NeverFits,
                        FailureKind::LoadRefused,
                        FailureKind::WorkerLost,
                        FailureKind::QueueFull,
                    ];
                    assert!(kinds.contains(&failure.kind), "{failure:?}");
                    wait::moments_of_chance(Duration::from_millis(50));
                    refused.fetch_add(1, Ordering::Relaxed)
                }
            };
        }
    };
    let mut strikes = 0;
    thread::scope(|scope| {
        for nth in 0..4 {
            scope.spawn(move || client(nth));
        }
        let seconds = rounds::seconds("GPUs fail", 20);
        wait::until(Duration::from_secs(seconds), || {
            wait::moments_of_chance(chance.moment(Duration::from_millis(150)));
            strike(&mut chance, &daemon, &gpus);
            strikes += 1;
            false
        });
        mend(&gpus);
        over.store(true, Ordering::Relaxed);
    });
    // Memory of the dead is returned, and what rested is tried again, before both models are drawn once more.
    for model in MODELS {
        let drawn = wait::until(2 * PATIENCE, || daemon.draw(&request(model, 1, 1)).is_ok());
        assert!(drawn, "{:?}", daemon.status());
    }
    let settled = wait::until(PATIENCE, || books_are_true(&daemon, &gpus));
    assert!(settled, "{:?} {:?}", daemon.status().memory, gpus.read());
    assert!(daemon.stderr.with("Defect").is_empty());
    let (drawn, refused) = (drawn.into_inner(), refused.into_inner());
    assert!(drawn > 0);
    let record = daemon.recorded();
    let starts = starts_within_the_limits(&record);
    let events = record.events.len();
    println!(
        "{strikes} strikes, {events} events, {starts} starts, {drawn} drawn, {refused} refused"
    );
}

/// The books of one GPU, from events and actions alone.
#[derive(Default)]
struct Seen {
    limit: Mebibytes,
    /// Memory that other programs leave of it.
    left: Option<Mebibytes>,
    /// Measured, and neither too long ago nor lost.
    is_current: bool,
    promised: BTreeMap<Generation, Mebibytes>,
}

/// Checks each start of a worker against the last measurement; returns how many there were.
fn starts_within_the_limits(record: &EventRecord) -> usize {
    let mut seen: BTreeMap<Device, Seen> = BTreeMap::new();
    for limit in &record.beginning.devices {
        seen.entry(limit.device).or_default().limit = limit.limit;
    }
    let mut starts = 0;
    for decision in record.decisions() {
        match &decision.happened.event {
            Event::MemoryMeasured {
                device,
                total: Some(total),
                foreign,
                ..
            } => {
                let gpu = seen.entry(*device).or_default();
                (gpu.left, gpu.is_current) = (Some(total.saturating_sub(*foreign)), true);
            }
            Event::MeasurementAged { device } | Event::DeviceLost { device, .. } => {
                seen.entry(*device).or_default().is_current = false;
            }
            Event::MemoryReturned { worker, left } => {
                for part in seen
                    .values_mut()
                    .filter_map(|gpu| gpu.promised.get_mut(worker))
                {
                    *part = (*left).min(*part);
                }
            }
            Event::WorkerStartFailed { worker, .. } => {
                for gpu in seen.values_mut() {
                    gpu.promised.remove(worker);
                }
            }
            _ => {}
        }
        for action in &decision.actions {
            let Action::Start(start) = action else {
                continue;
            };
            for (device, amount) in &start.reserved {
                let gpu = seen.entry(*device).or_default();
                if *device == Device::Host || *amount == Mebibytes::ZERO {
                    continue;
                }
                starts += 1;
                gpu.promised.insert(start.worker, *amount);
                let promised: Mebibytes = gpu.promised.values().copied().sum();
                let most = gpu
                    .limit
                    .min(gpu.left.expect("it was measured at the start"));
                let line = decision.happened.line;
                assert!(gpu.is_current, "line {line}: {device} is not measured");
                assert!(
                    promised <= most,
                    "line {line}: {promised} of {most} on {device}"
                );
            }
        }
    }
    assert!(starts > 0);
    starts
}
