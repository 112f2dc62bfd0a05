//! Log lines for the pool's notices, one each.

use ipc_protocol::exit_code::ExitCode;
use pool::{Action, Event, Exit, KilledBy, Moment, Notice};
use tracing::{debug, error, info, warn};

use super::ms;

/// Logs a notice.
pub fn tell(notice: &Notice) {
    match notice {
        Notice::Spawned {
            worker,
            name,
            pid,
            device,
            reserved,
        } => info!(
            model = %name.model, %name, pid, device = %device.placement(), reserved_mb = reserved.0,
            generation = worker.0, "Spawned worker {}", name.slot + 1
        ),
        Notice::SpawnFailed { name, message } => {
            error!(worker = %name, error = %message, "Cannot start a worker");
        }
        Notice::Ready { worker, name, load } => {
            info!(worker = %name, generation = worker.0, load_ms = ms(*load), "Worker ready");
        }
        Notice::Outgrew {
            worker,
            name,
            reserved,
            measured,
        } => warn!(
            worker = %name, generation = worker.0, reserved_mb = reserved.0, measured_mb = measured.0,
            "Worker uses more memory than it has reserved"
        ),
        Notice::Stopping { worker, name, why } if why.is_fault() => {
            warn!(worker = %name, generation = worker.0, reason = %why.word(), "Stopping a worker");
        }
        Notice::Stopping { worker, name, why } => {
            info!(worker = %name, generation = worker.0, reason = %why.word(), "Stopping a worker");
        }
        Notice::Left { worker, name, why } => {
            info!(worker = %name, generation = worker.0, reason = %why.word(), "Worker exited");
        }
        Notice::Died {
            worker,
            name,
            exit,
            doing,
            in_a_row,
            backoff,
            ..
        } => warn!(
            worker = %name, generation = worker.0, exit = %how(*exit), %doing, in_a_row,
            backoff_ms = ms(*backoff), "Worker died"
        ),
        Notice::NotReaped {
            worker,
            name,
            since,
        } => error!(
            worker = %name, generation = worker.0, since_ms = ms(*since),
            "Killed worker has not exited yet"
        ),
        Notice::PlacedAgain {
            job,
            resume_step,
            attempt,
        } => info!(job = job.0, attempt, resume_step, "Job will be retried"),
        Notice::Evicted {
            name,
            for_model,
            freed,
        } => info!(worker = %name, %for_model, freed_mb = freed.0, "Evicted an idle worker"),
        Notice::BreakerOpened {
            model,
            failures,
            last,
            for_long,
        } => {
            warn!(%model, failures, error = %last, for_ms = ms(*for_long), "Model failed too often and is not started for a while")
        }
        Notice::BreakerClosed { model } => info!(%model, "Model works again"),
        Notice::LoadCooling {
            model,
            message,
            for_long,
        } => warn!(%model, error = %message, for_ms = ms(*for_long), "Model cannot be loaded"),
        Notice::Quarantined {
            job,
            digest,
            evidence,
        } => warn!(
            job = job.0,
            digest,
            evidence = evidence.join("; "),
            "Job is quarantined: every worker that ran it died"
        ),
        Notice::Unreclaimed {
            worker,
            device,
            amount,
        } => error!(
            generation = worker.0, %device, amount_mb = amount.0,
            "Memory of a dead worker is still in use"
        ),
        Notice::DeviceLost { device, reason } => {
            error!(%device, %reason, "Device lost: nothing is placed there until it is measured again");
        }
        Notice::DeviceRests {
            device,
            reason,
            for_long,
        } => warn!(
            %device, %reason, for_ms = ms(*for_long), "Device rests: nothing new is placed there"
        ),
        Notice::DeviceBack { device } => info!(%device, "Device is used again"),
        Notice::Draining { jobs } => info!(jobs, "Draining: new requests are refused"),
        Notice::DrainUndone => info!("Drain ended: requests are accepted again"),
        Notice::Defect { what } => {
            error!(error = %what, "Defect in the pool: please report it");
        }
    }
}

/// Logs an event before the pool handles it.
pub fn event(at: Moment, event: &Event) {
    debug!(%at, "event {event:?}");
}

/// Logs an action of the pool.
pub fn action(action: &Action) {
    debug!("action {action:?}");
}

/// Describes the end of a process.
pub fn how(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => match ExitCode::from_number(code) {
            Some(known) => format!("code {code} ({})", known.meaning()),
            None => format!("code {code}"),
        },
        Exit::Signal { signal, by } => format!(
            "signal {signal} ({})",
            match by {
                KilledBy::Us => "sent by us",
                KilledBy::KernelOom => "the kernel was out of memory",
                KilledBy::AllocationFailed => "an allocation failed",
                KilledBy::Other => "its own fault or sent by another program",
            }
        ),
    }
}
