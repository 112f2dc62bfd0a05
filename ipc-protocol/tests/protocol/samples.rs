//! Samples of every message of both connections, each with a name.

use std::collections::BTreeMap;

use ipc_protocol::arithmetic::{Arithmetic, Decoding, Dtype, Encoders};
use ipc_protocol::event::{EventReport, FactValue};
use ipc_protocol::failure::{Failure, Field};
use ipc_protocol::ids::{Device, DeviceConstraint, Generation, JobId, ModelKey, WorkerName};
use ipc_protocol::job::{JobState, JobStatus, JobTimes, PictureState};
use ipc_protocol::log::{LogLines, LogRequest, LogSource};
use ipc_protocol::messages::client::{
    Accepted, AvailableModel, AvailableModels, Fetching, FromPool, JobReport, PromptTexts,
    ReceiptFacts, Target, ToPool, Told, Verb,
};
use ipc_protocol::messages::worker::{
    FromWorker, JobFault, JobOrder, ModelSource, Timings, ToWorker, Welcome,
};
use ipc_protocol::obituary::Obituary;
use ipc_protocol::reading::{Reading, UnknownWord};
use ipc_protocol::request::{ImageRequest, Priority};
use ipc_protocol::sandbox::SandboxReached;
use ipc_protocol::segment::{Geometry, Slot};
use ipc_protocol::status::{
    Counters, DeviceState, DeviceStatus, MemoryStatus, ModelStatus, QueuedStatus, RunningStatus,
    StatusPart, SupervisorStatus, WorkerState, WorkerStatus,
};
use ipc_protocol::units::PictureSize;

const JOB: JobId = JobId(300);
const SIZE: PictureSize = PictureSize {
    width: 128,
    height: 64,
};

fn model() -> ModelKey {
    ModelKey::new("pocket-flux").expect("a plain key")
}

fn worker() -> WorkerName {
    WorkerName {
        model: model(),
        slot: 1,
    }
}

/// Returns a client's messages.
pub fn to_pool() -> Vec<(&'static str, ToPool)> {
    let everything = ImageRequest {
        model: Some("pocket-flux".into()),
        size: Some(SIZE),
        steps: Some(4),
        guidance: Some(0.5),
        negative: Some("fog".into()),
        seed: Some(u64::MAX),
        count: 3,
        device: DeviceConstraint::On(Device::Cuda(1)),
        priority: Priority::Low,
        timeout_ms: Some(60_000),
        user: Some("uid:1000".into()),
        detached: true,
        previews: true,
        ..ImageRequest::new("a réd circle")
    };
    let plain = ImageRequest::new("a red circle");
    vec![
        ("ToPool::Hello", ToPool::Hello { protocol: 1 }),
        ("ToPool::Generate/plain", ToPool::Generate(plain)),
        ("ToPool::Generate/everything", ToPool::Generate(everything)),
        ("ToPool::Cancel", ToPool::Cancel { job: JOB }),
        ("ToPool::Status", ToPool::Status),
        ("ToPool::Operate/stop", operate(Verb::Stop(Target::All))),
        (
            "ToPool::Operate/start",
            operate(Verb::Start(Target::Model(model()))),
        ),
        (
            "ToPool::Operate/restart",
            operate(Verb::Restart(Target::Worker(worker()))),
        ),
        ("ToPool::Operate/shutdown", operate(Verb::Shutdown)),
        ("ToPool::Operate/undrain", operate(Verb::Undrain)),
        (
            "ToPool::Operate/evict",
            operate(Verb::Evict { model: "m".into() }),
        ),
        (
            "ToPool::Operate/yield",
            operate(Verb::Yield { seconds: 600 }),
        ),
        ("ToPool::Wait", ToPool::Wait { job: JOB }),
        ("ToPool::Jobs", ToPool::Jobs),
        (
            "ToPool::Obituaries",
            ToPool::Obituaries {
                of: Target::Worker(worker()),
                most: 3,
            },
        ),
    ]
    .into_iter()
    .chain(operators_requests())
    .collect()
}

/// Returns the requests of operators for logs, events and settings.
fn operators_requests() -> Vec<(&'static str, ToPool)> {
    let signal = Verb::Signal {
        signal: "SIGUSR1".into(),
        target: Target::Model(model()),
    };
    let update = Verb::Update {
        models: vec!["pocket-flux".into()],
    };
    vec![
        ("ToPool::Operate/signal", operate(signal)),
        (
            "ToPool::Operate/clear",
            operate(Verb::Clear(Target::Worker(worker()))),
        ),
        ("ToPool::Operate/reread", operate(Verb::Reread)),
        ("ToPool::Operate/update", operate(update)),
        ("ToPool::Operate/reload", operate(Verb::Reload)),
        (
            "ToPool::Tail/worker",
            ToPool::Tail(LogRequest {
                source: LogSource::Worker(worker()),
                bytes: 1600,
                follow: true,
            }),
        ),
        (
            "ToPool::Tail/daemon",
            ToPool::Tail(LogRequest {
                source: LogSource::Daemon,
                bytes: 100,
                follow: false,
            }),
        ),
        ("ToPool::Events", ToPool::Events { follow: true }),
        ("ToPool::Available", ToPool::Available),
    ]
}

fn operate(verb: Verb) -> ToPool {
    ToPool::Operate(verb)
}

/// Returns the supervisor's messages to a client.
pub fn from_pool() -> Vec<(&'static str, FromPool)> {
    let failure = Failure::bad_value(Field::Size, "17x33 is no size").retry_after_ms(1500);
    let mut samples = vec![
        ("FromPool::Hello", hello()),
        ("FromPool::Accepted", FromPool::Accepted(accepted())),
        ("FromPool::Refused", FromPool::Refused(failure.clone())),
        ("FromPool::Waiting", waiting()),
        (
            "FromPool::Loading",
            FromPool::Loading {
                job: JOB,
                permille: 999,
            },
        ),
        (
            "FromPool::Step",
            FromPool::Step {
                job: JOB,
                step: 3,
                steps: 4,
                elapsed_ms: 70_000,
            },
        ),
        ("FromPool::Image", image()),
        (
            "FromPool::Finished",
            FromPool::Finished {
                job: JOB,
                report: job_report(),
            },
        ),
        (
            "FromPool::Job",
            FromPool::Job(Box::new(job_status(failure.clone()))),
        ),
        ("FromPool::JobsEnd", FromPool::JobsEnd),
        (
            "FromPool::Obituary",
            FromPool::Obituary(Box::new(obituary())),
        ),
        ("FromPool::ObituariesEnd", FromPool::ObituariesEnd),
        (
            "FromPool::Texts",
            FromPool::Texts(PromptTexts {
                prompt: "a réd circle".into(),
                negative: Some("fog".into()),
            }),
        ),
        ("FromPool::Failed", FromPool::Failed { job: JOB, failure }),
        (
            "FromPool::Fetching",
            FromPool::Fetching(Fetching {
                model: ModelKey::new("flux-schnell").expect("a plain key"),
                here_bytes: 70_000,
                all_bytes: 33_700_000_000,
            }),
        ),
        (
            "FromPool::Told",
            FromPool::Told(Told {
                lines: vec!["pocket-flux:0: stopped".into(), String::new()],
                success: true,
                more: false,
            }),
        ),
        (
            "FromPool::Told, of several",
            FromPool::Told(Told {
                lines: vec!["0123456789abcdef   3 s ago".into()],
                success: true,
                more: true,
            }),
        ),
    ];
    samples.extend(status_parts().map(|(name, part)| (name, FromPool::Status(part))));
    samples.extend(operators_answers());
    samples
}

/// Returns the answers to requests for logs, events and settings.
fn operators_answers() -> [(&'static str, FromPool); 5] {
    let event = EventReport {
        t_us: 1_234_567,
        event: "died".into(),
        facts: vec![
            ("worker".into(), FactValue::Text(worker().to_string())),
            ("generation".into(), FactValue::Number(300)),
            ("job".into(), FactValue::Absent),
        ],
    };
    let available = AvailableModel {
        key: model(),
        in_use: true,
        auto: false,
    };
    [
        (
            "FromPool::Log",
            FromPool::Log(LogLines {
                lines: vec!["loaded".into(), String::new()],
                missed: 300,
            }),
        ),
        ("FromPool::LogEnd", FromPool::LogEnd),
        ("FromPool::Event", FromPool::Event(event)),
        ("FromPool::EventsEnd", FromPool::EventsEnd),
        (
            "FromPool::Available",
            FromPool::Available(AvailableModels {
                models: vec![available],
                more: false,
            }),
        ),
    ]
}

fn job_status(failure: Failure) -> JobStatus {
    JobStatus {
        job: JOB,
        user: "uid:1000".into(),
        model: model(),
        prompt: "a réd circle".into(),
        index: 2,
        width: Some(128),
        height: Some(64),
        seed: Some(u64::MAX),
        steps: Some(4),
        created: 1_800_000_000,
        detached: true,
        state: JobState::Cancelled,
        step: 3,
        position: 2,
        waiting_s: 2.5,
        reason: "1 of 1 workers is busy".into(),
        eta_s: Some(1.5),
        worker: Some("pocket-flux:1".into()),
        attempts: 2,
        times: Some(JobTimes {
            queue_ms: 250,
            load_ms: 251,
            denoise_ms: 65_536,
            decode_ms: 12,
        }),
        failure: Some(failure),
        picture: PictureState::Gone,
        kept_s: Some(600.0),
    }
}

fn hello() -> FromPool {
    FromPool::Hello {
        protocol: 1,
        version: "0.1.0".into(),
        pid: 4711,
    }
}

fn waiting() -> FromPool {
    FromPool::Waiting {
        job: JOB,
        position: 2,
        reason: "1 of 1 workers is busy".into(),
    }
}

fn image() -> FromPool {
    FromPool::Image {
        job: JOB,
        index: 2,
        size: SIZE,
        preview: false,
        offset: 1 << 18,
        len: 1 << 16,
    }
}

fn accepted() -> Accepted {
    Accepted {
        first: JOB,
        count: 3,
        model: model(),
        size: SIZE,
        steps: 4,
        seed: 7,
        decode_ms: Some(30),
    }
}

fn reading() -> Reading {
    Reading {
        was_cut: true,
        unknown: vec![UnknownWord::new("astronaut", Some("rocket"))],
        examples: vec!["fox".into()],
        tokens: 300,
    }
}

fn job_report() -> JobReport {
    JobReport {
        worker: worker(),
        seed: 9,
        attempts: 2,
        resume_step: 3,
        queue_ms: 250,
        load_ms: 251,
        denoise_ms: 65_536,
        decode_ms: 12,
        reading: reading(),
        receipt: ReceiptFacts {
            digest: "00ff".into(),
            sampler: "euler".into(),
            dtype: "f32".into(),
            guidance: 0.0,
        },
        metadata: true,
    }
}

fn status_parts() -> impl Iterator<Item = (&'static str, StatusPart)> {
    [
        ("FromPool::Status/supervisor", supervisor_part()),
        ("FromPool::Status/memory", memory_part()),
        ("FromPool::Status/worker", worker_part()),
        ("FromPool::Status/model", model_part()),
        ("FromPool::Status/queued", queued_part()),
        (
            "FromPool::Status/counters",
            StatusPart::Counters(Counters {
                spawns: 5,
                exits: 3,
                evictions: 2,
                swaps: 1,
                overtakes_max: 8,
            }),
        ),
        ("FromPool::Status/end", StatusPart::End),
        ("FromPool::Status/device", device_part()),
    ]
    .into_iter()
}

fn obituary() -> Obituary {
    Obituary {
        worker: "pocket-flux:1".into(),
        model: "pocket-flux".into(),
        generation: 12,
        pid: Some(4711),
        device: "cpu".into(),
        time: "2026-01-02T03:04:05.678Z".into(),
        uptime_s: 1.5,
        supervisor_pid: 4700,
        class: "panicked".into(),
        sentence: "pocket-flux:1 exited with code 85 (panic)".into(),
        exit_code: Some(85),
        signal: None,
        sender: None,
        state: "busy".into(),
        load_progress: None,
        job: Some(300),
        attempt: Some(1),
        step: Some(3),
        steps: Some(4),
        jobs_done: 7,
        reserved_mb: BTreeMap::from([("host".to_owned(), 100)]),
        measured_mb: Some(90),
        peak_mb: Some(95),
        files: "ab12".into(),
        message: None,
        in_a_row: 1,
        backoff_s: 0.0,
        next: vec!["job 300 resumes after step 3".into()],
        lines: vec!["a line".into()],
        lines_left_out: 0,
    }
}

fn supervisor_part() -> StatusPart {
    StatusPart::Supervisor(SupervisorStatus {
        pid: 4711,
        version: "0.1.0".into(),
        state: "serving".into(),
        uptime_s: 1.5,
        draining_s: Some(0.5),
        control_groups: "v2".into(),
        control_groups_detail: "/sys/fs/cgroup/pool".into(),
        state_dir: Some("/var/lib/imagepool".into()),
        yielding_s: Some(2.5),
        journal: "renewed".into(),
        journal_detail: "it was damaged".into(),
    })
}

fn memory_part() -> StatusPart {
    StatusPart::Memory(MemoryStatus {
        device: "host".into(),
        limit_mb: 19_000,
        reserved_mb: 260,
        measured_mb: Some(120),
        foreign_mb: None,
        settling_mb: 0,
    })
}

fn device_part() -> StatusPart {
    StatusPart::Device(DeviceStatus {
        device: "cuda:0".into(),
        name: "NVIDIA H100".into(),
        uuid: "GPU-0".into(),
        compute: Some("9.0".into()),
        driver: "570.1".into(),
        total_mb: 81_559,
        state: DeviceState::Resting,
        reason: Some("it rests".into()),
        measured_s: 0.5,
        temperature_c: Some(40),
        power_w: Some(120.5),
        uncorrected_errors: Some(0),
    })
}

fn worker_part() -> StatusPart {
    StatusPart::Worker(WorkerStatus {
        name: worker().to_string(),
        model: model(),
        state: WorkerState::Running,
        pid: Some(4712),
        device: "cpu".into(),
        generation: Generation(2),
        reserved_mb: [("host".to_owned(), 130)].into(),
        measured_mb: Some(60),
        job: Some(RunningStatus {
            id: JOB,
            step: 3,
            steps: 4,
        }),
        jobs_done: 17,
        restarts: 1,
        since_s: 0.25,
        uptime_s: 90.0,
        load_progress: Some(0.5),
        sandbox: Some(SandboxReached::Off),
    })
}

fn model_part() -> StatusPart {
    StatusPart::Model(ModelStatus {
        key: model(),
        family: "flux".into(),
        state: "cold".into(),
        need_mb: 130,
        pinned: true,
        at_rest: Some((WorkerState::Exited, "Idle".into())),
    })
}

fn queued_part() -> StatusPart {
    StatusPart::Queued(QueuedStatus {
        job: JOB,
        model: model(),
        state: "waiting".into(),
        position: 4,
        waiting_s: 2.5,
        reason: "the model is being loaded".into(),
    })
}

/// Returns the supervisor's messages to a worker.
pub fn to_worker() -> Vec<(&'static str, ToWorker)> {
    let embedded = ModelSource::Embedded {
        key: "pocket-flux".into(),
    };
    let folder = ModelSource::Folder {
        path: "/models/flux".into(),
        family: Some("flux".into()),
    };
    let synthetic = ModelSource::Synthetic {
        step_ms: 300,
        load_ms: 50,
        weights_mb: 16,
        device_mb: 24,
    };
    vec![
        ("ToWorker::Welcome/embedded", welcome(embedded)),
        ("ToWorker::Welcome/folder", welcome(folder)),
        ("ToWorker::Welcome/synthetic", welcome(synthetic)),
        ("ToWorker::Run", ToWorker::Run(order())),
        ("ToWorker::Cancel", ToWorker::Cancel { job: JOB }),
        ("ToWorker::Leave", ToWorker::Leave),
    ]
}

fn welcome(source: ModelSource) -> ToWorker {
    ToWorker::Welcome(Welcome {
        protocol: 1,
        generation: Generation(2),
        supervisor_pid: 4711,
        source,
        device: Device::Host,
        threads: 2,
        arithmetic: Arithmetic {
            dtype: Dtype::Bf16,
            encoders: Encoders::Drop,
        },
        geometry: Geometry {
            latents_bytes: 16_384,
            preview_bytes: 768,
            picture_bytes: 196_608,
        },
        stamp: "5a".into(),
        decoding: Decoding::Tiled,
    })
}

fn order() -> JobOrder {
    JobOrder {
        job: JOB,
        prompt: "a red circle".into(),
        negative: None,
        size: SIZE,
        steps: 4,
        guidance: 0.0,
        seed: 7,
        resume_step: 2,
        resume_bytes: 16_384,
        previews: true,
    }
}

/// Returns a worker's messages.
pub fn from_worker() -> Vec<(&'static str, FromWorker)> {
    vec![
        (
            "FromWorker::Hello",
            FromWorker::Hello {
                protocol: 1,
                pid: 4712,
                generation: Generation(2),
                sandbox: SandboxReached::On {
                    landlock: 7,
                    filters_calls: true,
                },
            },
        ),
        (
            "FromWorker::Loading",
            FromWorker::Loading { permille: 1000 },
        ),
        (
            "FromWorker::Ready",
            FromWorker::Ready {
                peak_bytes: 1 << 33,
                dtype: Dtype::F32,
                because: None,
            },
        ),
        (
            "FromWorker::Ready/otherwise",
            FromWorker::Ready {
                peak_bytes: 1 << 33,
                dtype: Dtype::Bf16,
                because: Some("no f16".into()),
            },
        ),
        (
            "FromWorker::Heartbeat",
            FromWorker::Heartbeat {
                resident_bytes: 1 << 26,
                work: 4711,
            },
        ),
        ("FromWorker::Step", step()),
        ("FromWorker::Done", done()),
        (
            "FromWorker::GivingUp",
            FromWorker::GivingUp {
                message: "ae.safetensors is missing".into(),
            },
        ),
        ("FromWorker::Failed/request", failed(bad_request())),
        ("FromWorker::Failed/memory", failed(out_of_memory())),
        ("FromWorker::Failed/not finite", failed(not_finite())),
        ("FromWorker::Failed/cancelled", failed(JobFault::Cancelled)),
        (
            "FromWorker::Failed/other",
            failed(JobFault::Other {
                message: "matmul".into(),
            }),
        ),
    ]
}

fn step() -> FromWorker {
    FromWorker::Step {
        job: JOB,
        step: 3,
        slot: Slot::Latents1,
        bytes: 16_384,
        preview: Some(SIZE),
        elapsed_ms: 251,
    }
}

fn done() -> FromWorker {
    FromWorker::Done {
        job: JOB,
        size: SIZE,
        reading: Reading::default(),
        timings: Timings {
            encode_ms: 1,
            denoise_ms: 1000,
            decode_ms: 250,
        },
        peak_bytes: 1 << 27,
    }
}

fn failed(fault: JobFault) -> FromWorker {
    FromWorker::Failed { job: JOB, fault }
}

fn bad_request() -> JobFault {
    JobFault::BadRequest {
        field: Field::Steps,
        message: "at most 64".into(),
    }
}

fn out_of_memory() -> JobFault {
    JobFault::OutOfMemory {
        message: "attention of 4096 tokens".into(),
    }
}

fn not_finite() -> JobFault {
    JobFault::NotFinite {
        stage: "step 3".into(),
    }
}
