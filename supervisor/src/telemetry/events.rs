//! Log lines for the pool's notices, one each. Those that also move a metric are structs beside the other lines about
//! the same things.

use pool::{Action, Event, Moment, Notice};
use tracing::{debug, error, info, warn};

use super::ms;
use super::workers::{WorkerDied, WorkerEvicted, WorkerLeft, WorkerNotStarted, WorkerReady};

/// Tells a notice: one arm each.
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
        Notice::SpawnFailed { name, message } => WorkerNotStarted { name, message }.tell(),
        &Notice::Ready {
            worker,
            ref name,
            load,
        } => WorkerReady { worker, name, load }.tell(),
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
        &Notice::Left {
            worker,
            ref name,
            why,
            loading,
        } => WorkerLeft {
            worker,
            name,
            why,
            loading,
        }
        .tell(),
        &Notice::Died {
            worker,
            ref name,
            exit,
            why,
            loading,
            ref doing,
            in_a_row,
            backoff,
            job: _,
        } => WorkerDied {
            worker,
            name,
            exit,
            why,
            loading,
            doing,
            in_a_row,
            backoff,
        }
        .tell(),
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
        &Notice::Evicted {
            ref name,
            ref for_model,
            freed,
        } => WorkerEvicted {
            name,
            for_model,
            freed,
        }
        .tell(),
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
        Notice::TruceAsked { device } => {
            info!(%device, "Other programs are asked for the memory of a device");
        }
        Notice::TruceEnded { device } => info!(%device, "Device is left to other programs"),
        Notice::Yielding { for_long } => {
            info!(
                for_ms = ms(*for_long),
                "Yielding: memory is left to other programs"
            );
        }
        Notice::YieldEnded => info!("Yield ended: workers start again"),
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
