//! SIGKILL of a worker in the middle of a job: the job ends as if nothing had been.

use std::fs;
use std::sync::mpsc;
use std::thread;

use ipc_protocol::ids::JobId;
use ipc_protocol::request::ImageRequest;
use ipc_protocol::status::WorkerStatus;
use nix::sys::signal::Signal;
use tests::daemon::TestDaemon;
use tests::job::{draw, request};
use tests::pixels::sha256;
use tests::program::PATIENCE;
use tests::{processes, rounds, turn, wait};

/// A model, and the steps its jobs take.
struct Subject {
    model: &'static str,
    steps: u32,
}

const SYNTHETIC: Subject = Subject {
    model: "syn",
    steps: 20,
};
const POCKET: Subject = Subject {
    model: "pocket-flux",
    steps: 50,
};

/// Two workers of each model, kept; threads are few, so that two jobs do not starve the supervisor.
const SETTINGS: &str = "[pool]\nmax_workers_per_model = 2\n\
    [models.syn]\nfamily = \"synthetic\"\nmin_workers = 2\nparams = { step_ms = 60, load_ms = 1, weights_mb = 1 }\n\
    [models.pocket-flux]\nthreads = 1\nmin_workers = 2\n";

#[test]
fn a_synthetic_job_survives_its_worker() {
    let settings = SETTINGS.replace("[models.pocket-flux]\nthreads = 1\nmin_workers = 2\n", "");
    survive(&SYNTHETIC, &settings);
}

#[test]
fn a_job_of_the_embedded_model_survives_its_worker() {
    let settings = SETTINGS.replace("min_workers = 2\nparams", "params");
    survive(&POCKET, &settings);
}

fn survive(subject: &Subject, settings: &str) {
    let _turn = turn::take();
    let daemon = TestDaemon::start(settings);
    daemon.stderr.wait_for("Worker ready", 2, PATIENCE);
    let (undisturbed, attempts) = drawn(&daemon, subject, |_| {});
    assert_eq!(attempts, 1);
    for round in 0..rounds::rounds(&format!("workers of {} killed", subject.model), 5) {
        // Both workers are up again, so that the bystander has one of its own.
        let ready = 2 + round as usize;
        daemon.stderr.wait_for("Worker ready", ready, PATIENCE);
        let step = 2 + round * 7 % (subject.steps - 4);
        thread::scope(|scope| {
            let (started, running) = mpsc::channel();
            let bystander = scope.spawn(|| stand_by(&daemon, subject, started));
            let bystanders_job = running.recv_timeout(PATIENCE).expect("its first step");
            let (bytes, attempts) = drawn(&daemon, subject, |victim| {
                assert_ne!(victim, bystanders_job);
                kill_at(&daemon, victim, step);
            });
            assert_eq!(attempts, 2, "killed at step {step}");
            assert_eq!(bytes, undisturbed, "killed at step {step}");
            bystander
                .join()
                .expect("the other worker's job is unharmed");
        });
    }
    assert_eq!(daemon.status().supervisor.pid, daemon.pid());
}

/// Runs the command with seed 7 and `strike` once its job is known; SHA-256 of the file, and attempts.
fn drawn(daemon: &TestDaemon, subject: &Subject, strike: impl FnOnce(JobId)) -> (String, u64) {
    let before: Vec<u64> = jobs(daemon);
    let call = daemon.imagepool_begun(&[
        "generate",
        "a red circle",
        "-m",
        subject.model,
        "--steps",
        &subject.steps.to_string(),
        "--seed",
        "7",
        "-f",
        "-o",
        "victim.png",
        "--json",
    ]);
    let job = wait::until_found(PATIENCE, || {
        daemon
            .status()
            .queue
            .iter()
            .map(|queued| queued.job.0)
            .filter(|job| !before.contains(job))
            .max()
    });
    strike(JobId(job.expect("the job is accepted")));
    let output = call.output().succeeded();
    let bytes = fs::read(daemon.sandbox.pictures().join("victim.png")).expect("it was written");
    let attempts = output.json()[0]["attempts"].as_u64().expect("a number");
    (sha256(&bytes), attempts)
}

fn jobs(daemon: &TestDaemon) -> Vec<u64> {
    daemon
        .status()
        .queue
        .iter()
        .map(|queued| queued.job.0)
        .collect()
}

/// Kills the worker of a job as soon as it is seen beyond `step`.
fn kill_at(daemon: &TestDaemon, job: JobId, step: u32) {
    let worker = wait::until_found(PATIENCE, || {
        daemon.worker_of(job).filter(|worker| {
            worker
                .job
                .as_ref()
                .is_some_and(|running| running.step >= step)
        })
    });
    processes::signal(pid(&worker.expect("it gets that far")), Signal::SIGKILL);
}

fn pid(worker: &WorkerStatus) -> u32 {
    worker.pid.expect("a worker with a job has a process")
}

/// Draws something else meanwhile, and says which job once it runs; its worker is the same from the
/// first step to the last.
fn stand_by(daemon: &TestDaemon, subject: &Subject, started: mpsc::Sender<JobId>) {
    let mut pids = Vec::new();
    let wanted = request(subject.model, 2 * subject.steps, 99);
    let wanted = ImageRequest {
        steps: wanted.steps.map(|steps| steps.min(64)),
        ..wanted
    };
    let picture = draw(&mut daemon.client(), &wanted, |job, step| {
        if step == 1 {
            // The test ends with the channel.
            let _ = started.send(job);
        }
        pids.extend(daemon.worker_of(job).map(|worker| pid(&worker)));
    })
    .expect("nobody disturbs it");
    assert_eq!(picture.report.attempts, 1);
    pids.dedup();
    assert_eq!(pids.len(), 1, "its worker changed: {pids:?}");
}
