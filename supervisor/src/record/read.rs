//! Parses an event from a JSON line.

use ipc_protocol::failure::{Failure, FailureKind, Field};
use ipc_protocol::ids::{Device, DeviceConstraint, ModelKey, WorkerName};
use pool::{
    CpuTime, Drain, Event, Exit, JobFault, KilledBy, Moment, Phases, Registry, StartFault, Target,
};
use serde_json::Value;

use super::earlier;
use super::fields::EventFields;
use super::model::RecordedModel;
use super::values::{footprint, request};
use crate::config;

/// Parses a line; returns the event and its time.
///
/// # Errors
/// The message; it names the invalid field.
pub fn event(line: &str) -> Result<(Moment, Event), String> {
    let value: Value =
        serde_json::from_str(line).map_err(|error| format!("invalid JSON: {error}"))?;
    let facts = EventFields(&value);
    let ms = facts.get("t_ms")?.as_f64().ok_or("t_ms is not a number")?;
    let moment = Moment((ms * 1000.0).round() as u64);
    let name = facts.text("event")?;
    let readers = [of_people, of_device, earlier::event];
    for reader in readers {
        if let Some(event) = reader(&name, &facts)? {
            return Ok((moment, event));
        }
    }
    Ok((moment, of_worker(&name, &facts)?))
}

fn of_people(name: &str, facts: &EventFields<'_>) -> Result<Option<Event>, String> {
    Ok(Some(match name {
        "request_arrived" => Event::RequestArrived {
            ticket: facts.ticket()?,
            request: request(&facts.within("request")?)?,
            user: facts.text("user")?,
            entropy: facts.number("entropy")?,
        },
        "request_cancelled" => Event::RequestCancelled {
            job: facts.job()?,
            by: facts.text("by")?,
        },
        "client_gone" => Event::ClientGone {
            ticket: facts.ticket()?,
        },
        "files_arrived" => Event::FilesArrived {
            model: ModelKey::new(&facts.text("model")?)?,
        },
        "files_failed" => Event::FilesFailed {
            model: ModelKey::new(&facts.text("model")?)?,
            failure: failure(facts)?,
        },
        "start_requested" => Event::StartRequested {
            ticket: facts.ticket()?,
            target: target(facts.get("target")?)?,
        },
        "stop_requested" => Event::StopRequested {
            ticket: facts.ticket()?,
            target: target(facts.get("target")?)?,
        },
        "restart_requested" => Event::RestartRequested {
            ticket: facts.ticket()?,
            target: target(facts.get("target")?)?,
        },
        "pin_changed" => Event::PinChanged {
            ticket: facts.ticket()?,
            model: facts.text("model")?,
            pinned: facts.flag("pinned")?,
        },
        "evict_requested" => Event::EvictRequested {
            ticket: facts.ticket()?,
            model: facts.text("model")?,
        },
        "yield_requested" => Event::YieldRequested {
            ticket: facts.ticket()?,
            lasts: facts.micros("lasts_us")?,
        },
        "scaled" => Event::Scaled {
            ticket: facts.ticket()?,
            model: facts.text("model")?,
            workers: facts.number("workers")?,
        },
        "drain_requested" => Event::DrainRequested {
            ticket: facts.optional("ticket", |facts, _| facts.ticket())?,
            drain: match facts.text("drain")?.as_str() {
                "stay" => Drain::Stay,
                "exit" => Drain::Exit,
                "exit_now" => Drain::ExitNow,
                "undo" => Drain::Undo,
                other => return Err(format!("unknown drain {other:?}")),
            },
        },
        "quarantine_listed" => Event::QuarantineListed {
            ticket: facts.ticket()?,
            reader: facts.optional("reader", EventFields::text)?,
        },
        "quarantine_released" => Event::QuarantineReleased {
            ticket: facts.ticket()?,
            digest: facts.optional("digest", EventFields::text)?,
        },
        "settings_changed" => Event::SettingsChanged {
            settings: Box::new(config::parse(&facts.text("settings")?)?.pool),
        },
        "models_changed" => Event::ModelsChanged {
            registry: Box::new(registry(facts.get("models")?)?),
        },
        "deadline_reached" => Event::DeadlineReached,
        "loop_stalled" => Event::LoopStalled {
            lasted: facts.micros("lasted_us")?,
        },
        _ => return Ok(None),
    }))
}

fn failure(facts: &EventFields<'_>) -> Result<Failure, String> {
    let word = facts.text("kind")?;
    let kind = FailureKind::from_word(&word);
    let kind = kind.ok_or_else(|| format!("unknown kind of failure {word:?}"))?;
    Ok(Failure::new(kind, facts.text("message")?))
}

fn registry(models: &Value) -> Result<Registry, String> {
    let facts: Vec<RecordedModel> =
        serde_json::from_value(models.clone()).map_err(|error| error.to_string())?;
    let models: Result<Vec<_>, String> = facts.into_iter().map(RecordedModel::spec).collect();
    Registry::new(models?)
}

fn of_device(name: &str, facts: &EventFields<'_>) -> Result<Option<Event>, String> {
    let at = || device(&facts.text("device")?);
    Ok(Some(match name {
        "memory_measured" => Event::MemoryMeasured {
            device: at()?,
            total: facts.optional("total_mb", EventFields::mebibytes)?,
            measured: facts.mebibytes("measured_mb")?,
            foreign: facts.mebibytes("foreign_mb")?,
        },
        "measurement_aged" => Event::MeasurementAged { device: at()? },
        "truce_answered" => Event::TruceAnswered { device: at()? },
        "device_lost" => Event::DeviceLost {
            device: at()?,
            reason: facts.text("reason")?,
        },
        _ => return Ok(None),
    }))
}

fn of_worker(name: &str, facts: &EventFields<'_>) -> Result<Event, String> {
    let worker = facts.worker()?;
    Ok(match name {
        "worker_started" => Event::WorkerStarted {
            worker,
            pid: facts.number("pid")?,
        },
        "worker_start_failed" => Event::WorkerStartFailed {
            worker,
            message: facts.text("message")?,
            fault: match facts.text("fault")?.as_str() {
                "own" => StartFault::Own,
                "descriptors" => StartFault::Descriptors,
                "program" => StartFault::Program,
                other => return Err(format!("unknown fault of a start {other:?}")),
            },
        },
        "worker_said_hello" => Event::WorkerSaidHello { worker },
        "load_progressed" => Event::LoadProgressed {
            worker,
            permille: facts.number("permille")?,
        },
        "load_failed" => Event::LoadFailed {
            worker,
            message: facts.text("message")?,
        },
        "worker_ready" => Event::WorkerReady {
            worker,
            footprint: facts.optional("footprint", footprint)?,
        },
        "worker_heard" => Event::WorkerHeard { worker },
        "worker_worked" => Event::WorkerWorked {
            worker,
            work: facts.number("work")?,
        },
        "step_finished" => Event::StepFinished {
            worker,
            job: facts.job()?,
            step: facts.number("step")?,
        },
        "job_finished" => Event::JobFinished {
            worker,
            job: facts.job()?,
            phases: Phases {
                encode: facts.micros("encode_us")?,
                denoise: facts.micros("denoise_us")?,
                decode: facts.micros("decode_us")?,
            },
        },
        "job_failed" => Event::JobFailed {
            worker,
            job: facts.job()?,
            fault: fault(&facts.within("fault")?)?,
        },
        "worker_broke_protocol" => Event::WorkerBrokeProtocol {
            worker,
            what: facts.text("what")?,
        },
        "worker_exited" => Event::WorkerExited {
            worker,
            exit: exit(&facts.within("exit")?)?,
            resume_step: facts.optional("salvaged_step", EventFields::number)?,
        },
        "memory_returned" => Event::MemoryReturned {
            worker,
            left: facts.mebibytes("left_mb")?,
        },
        "footprint_measured" => Event::FootprintMeasured {
            worker,
            footprint: footprint(facts, "footprint")?,
        },
        "cpu_measured" => Event::CpuMeasured {
            worker,
            cpu: facts.optional("cpu", |facts, key| {
                let cpu = facts.within(key)?;
                Ok(CpuTime {
                    ran: cpu.micros("ran_us")?,
                    waited: cpu.micros("waited_us")?,
                    blocked: cpu.flag("blocked")?,
                })
            })?,
        },
        other => return Err(format!("unknown event {other:?}")),
    })
}

fn target(value: &Value) -> Result<Target, String> {
    if value.as_str() == Some("all") {
        return Ok(Target::All);
    }
    let facts = EventFields(value);
    let model = ModelKey::new(&facts.text("model")?)?;
    Ok(match value.get("slot") {
        None => Target::Model(model),
        Some(_) => Target::Worker(WorkerName {
            model,
            slot: facts.number("slot")?,
        }),
    })
}

fn fault(facts: &EventFields<'_>) -> Result<JobFault, String> {
    let message = || facts.text("message");
    Ok(match facts.text("kind")?.as_str() {
        "bad_request" => JobFault::BadRequest {
            field: field(&facts.text("field")?)?,
            message: message()?,
        },
        "out_of_memory" => JobFault::OutOfMemory {
            message: message()?,
        },
        "not_finite" => JobFault::NotFinite {
            stage: facts.text("stage")?,
        },
        "cancelled" => JobFault::Cancelled,
        "other" => JobFault::Other {
            message: message()?,
        },
        other => return Err(format!("unknown fault {other:?}")),
    })
}

fn field(word: &str) -> Result<Field, String> {
    Field::from_word(word).ok_or_else(|| format!("unknown field {word:?}"))
}

fn exit(facts: &EventFields<'_>) -> Result<Exit, String> {
    if let Some(code) = facts.0.get("code") {
        let code = code.as_i64().and_then(|code| i32::try_from(code).ok());
        return code.map(Exit::Code).ok_or("code is not a number".into());
    }
    Ok(Exit::Signal {
        signal: facts.number("signal")?,
        by: match facts.text("by")?.as_str() {
            "us" => KilledBy::Us,
            "operator" => KilledBy::Operator,
            "kernel_oom" => KilledBy::KernelOom,
            "own_limit" => KilledBy::OwnLimit,
            "allocation_failed" => KilledBy::AllocationFailed,
            "cut_file" => KilledBy::CutFile,
            "other" => KilledBy::Other,
            other => return Err(format!("unknown sender of a signal {other:?}")),
        },
    })
}

pub(super) fn device(word: &str) -> Result<Device, String> {
    match word.parse()? {
        DeviceConstraint::On(device) => Ok(device),
        DeviceConstraint::Auto => Err("auto is not a device".into()),
    }
}
