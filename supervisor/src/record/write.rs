//! Formats an event as a JSON line.

use ipc_protocol::ids::Device;
use pool::{Drain, Event, Exit, JobFault, KilledBy, Moment, Registry, StartFault, Target};
use serde_json::{Value, json};

use super::earlier;
use super::model::RecordedModel;
use super::values::{asked, held};

/// Formats the line of an event; `None` for changed settings, whose line is [`settings_line`].
pub fn line(now: Moment, event: &Event) -> Option<String> {
    let (name, mut facts) = facts(event)?;
    let object = facts.as_object_mut()?;
    object.insert("t_ms".into(), json!(now.0 as f64 / 1000.0));
    object.insert("event".into(), json!(name));
    Some(facts.to_string())
}

/// Formats the line of changed settings, from the text of their file.
pub fn settings_line(now: Moment, text: &str) -> String {
    let t_ms = now.0 as f64 / 1000.0;
    json!({"t_ms": t_ms, "event": "settings_changed", "settings": text}).to_string()
}

fn facts(event: &Event) -> Option<(&'static str, Value)> {
    Some(match event {
        Event::RequestArrived {
            ticket,
            request,
            user,
            entropy,
        } => (
            "request_arrived",
            json!({"ticket": ticket.0, "request": asked(request), "user": user, "entropy": entropy}),
        ),
        Event::RequestCancelled { job, by } => {
            ("request_cancelled", json!({"job": job.0, "by": by}))
        }
        Event::ClientGone { ticket } => ("client_gone", json!({"ticket": ticket.0})),
        Event::FilesArrived { model } => ("files_arrived", json!({"model": model.as_str()})),
        Event::FilesFailed { model, failure } => (
            "files_failed",
            json!({"model": model.as_str(), "kind": failure.kind.word(), "message": failure.message}),
        ),
        Event::StartRequested { ticket, target } => (
            "start_requested",
            json!({"ticket": ticket.0, "target": aim(target)}),
        ),
        Event::StopRequested { ticket, target } => (
            "stop_requested",
            json!({"ticket": ticket.0, "target": aim(target)}),
        ),
        Event::RestartRequested { ticket, target } => (
            "restart_requested",
            json!({"ticket": ticket.0, "target": aim(target)}),
        ),
        Event::PinChanged {
            ticket,
            model,
            pinned,
        } => (
            "pin_changed",
            json!({"ticket": ticket.0, "model": model, "pinned": pinned}),
        ),
        Event::EvictRequested { ticket, model } => (
            "evict_requested",
            json!({"ticket": ticket.0, "model": model}),
        ),
        Event::YieldRequested { ticket, lasts } => (
            "yield_requested",
            json!({"ticket": ticket.0, "lasts_us": lasts.as_micros() as u64}),
        ),
        Event::Scaled {
            ticket,
            model,
            workers,
        } => (
            "scaled",
            json!({"ticket": ticket.0, "model": model, "workers": workers}),
        ),
        Event::DrainRequested { ticket, drain } => (
            "drain_requested",
            json!({"ticket": ticket.map(|ticket| ticket.0), "drain": wind_down(*drain)}),
        ),
        Event::QuarantineListed { ticket, reader } => (
            "quarantine_listed",
            json!({"ticket": ticket.0, "reader": reader}),
        ),
        Event::QuarantineReleased { ticket, digest } => (
            "quarantine_released",
            json!({"ticket": ticket.0, "digest": digest}),
        ),
        Event::ModelsChanged { registry } => {
            ("models_changed", json!({"models": models(registry)?}))
        }
        Event::SettingsChanged { .. } => return None,
        Event::DeadlineReached => ("deadline_reached", json!({})),
        Event::LoopStalled { lasted } => (
            "loop_stalled",
            json!({"lasted_us": lasted.as_micros() as u64}),
        ),
        other => return earlier::facts(other).or_else(|| of_worker(other)),
    })
}

/// Formats events about a worker or about memory.
fn of_worker(event: &Event) -> Option<(&'static str, Value)> {
    Some(match event {
        Event::WorkerStarted { worker, pid } => {
            ("worker_started", json!({"worker": worker.0, "pid": pid}))
        }
        Event::WorkerStartFailed {
            worker,
            message,
            fault,
        } => (
            "worker_start_failed",
            json!({"worker": worker.0, "message": message, "fault": match fault {
                StartFault::Own => "own",
                StartFault::Descriptors => "descriptors",
                StartFault::Program => "program",
            }}),
        ),
        Event::WorkerSaidHello { worker } => ("worker_said_hello", json!({"worker": worker.0})),
        Event::LoadProgressed { worker, permille } => (
            "load_progressed",
            json!({"worker": worker.0, "permille": permille}),
        ),
        Event::LoadFailed { worker, message } => (
            "load_failed",
            json!({"worker": worker.0, "message": message}),
        ),
        Event::WorkerReady { worker, footprint } => (
            "worker_ready",
            json!({"worker": worker.0, "footprint": footprint.as_ref().map(held)}),
        ),
        Event::WorkerHeard { worker } => ("worker_heard", json!({"worker": worker.0})),
        Event::WorkerWorked { worker, work } => {
            ("worker_worked", json!({"worker": worker.0, "work": work}))
        }
        Event::StepFinished { worker, job, step } => (
            "step_finished",
            json!({"worker": worker.0, "job": job.0, "step": step}),
        ),
        Event::JobFinished {
            worker,
            job,
            phases,
        } => (
            "job_finished",
            json!({"worker": worker.0, "job": job.0, "encode_us": phases.encode.as_micros() as u64,
                   "denoise_us": phases.denoise.as_micros() as u64,
                   "decode_us": phases.decode.as_micros() as u64}),
        ),
        Event::JobFailed { worker, job, fault } => (
            "job_failed",
            json!({"worker": worker.0, "job": job.0, "fault": gave_up(fault)}),
        ),
        Event::WorkerBrokeProtocol { worker, what } => (
            "worker_broke_protocol",
            json!({"worker": worker.0, "what": what}),
        ),
        Event::WorkerExited {
            worker,
            exit,
            resume_step,
        } => (
            "worker_exited",
            json!({"worker": worker.0, "exit": ended(*exit), "salvaged_step": resume_step}),
        ),
        Event::MemoryReturned { worker, left } => (
            "memory_returned",
            json!({"worker": worker.0, "left_mb": left.0}),
        ),
        Event::MemoryMeasured {
            device,
            total,
            measured,
            foreign,
        } => (
            "memory_measured",
            json!({"device": device_name(*device), "total_mb": total.map(|total| total.0),
                   "measured_mb": measured.0, "foreign_mb": foreign.0}),
        ),
        Event::MeasurementAged { device } => {
            ("measurement_aged", json!({"device": device_name(*device)}))
        }
        Event::TruceAnswered { device } => {
            ("truce_answered", json!({"device": device_name(*device)}))
        }
        Event::DeviceLost { device, reason } => (
            "device_lost",
            json!({"device": device_name(*device), "reason": reason}),
        ),
        Event::FootprintMeasured { worker, footprint } => (
            "footprint_measured",
            json!({"worker": worker.0, "footprint": held(footprint)}),
        ),
        Event::CpuMeasured { worker, cpu } => (
            "cpu_measured",
            json!({"worker": worker.0, "cpu": cpu.as_ref().map(|cpu| json!({
                "ran_us": cpu.ran.as_micros() as u64, "waited_us": cpu.waited.as_micros() as u64,
                "blocked": cpu.blocked,
            }))}),
        ),
        _ => return None,
    })
}

/// Formats the models; `None` if a number is not finite, so that JSON cannot represent it.
fn models(registry: &Registry) -> Option<Value> {
    let facts: Vec<RecordedModel> = registry.iter().map(RecordedModel::of).collect();
    serde_json::to_value(facts).ok()
}

fn aim(target: &Target) -> Value {
    match target {
        Target::All => json!("all"),
        Target::Model(model) => json!({"model": model.as_str()}),
        Target::Worker(name) => json!({"model": name.model.as_str(), "slot": name.slot}),
    }
}

fn wind_down(drain: Drain) -> &'static str {
    match drain {
        Drain::Stay => "stay",
        Drain::Exit => "exit",
        Drain::ExitNow => "exit_now",
        Drain::Undo => "undo",
    }
}

fn gave_up(fault: &JobFault) -> Value {
    match fault {
        JobFault::BadRequest { field, message } => {
            json!({"kind": "bad_request", "field": field.to_string(), "message": message})
        }
        JobFault::OutOfMemory { message } => json!({"kind": "out_of_memory", "message": message}),
        JobFault::NotFinite { stage } => json!({"kind": "not_finite", "stage": stage}),
        JobFault::Cancelled => json!({"kind": "cancelled"}),
        JobFault::Other { message } => json!({"kind": "other", "message": message}),
    }
}

fn ended(exit: Exit) -> Value {
    match exit {
        Exit::Code(code) => json!({"code": code}),
        Exit::Signal { signal, by } => json!({"signal": signal, "by": match by {
            KilledBy::Us => "us",
            KilledBy::Operator => "operator",
            KilledBy::KernelOom => "kernel_oom",
            KilledBy::OwnLimit => "own_limit",
            KilledBy::AllocationFailed => "allocation_failed",
            KilledBy::CutFile => "cut_file",
            KilledBy::Other => "other",
        }}),
    }
}

fn device_name(device: Device) -> String {
    device.placement()
}
