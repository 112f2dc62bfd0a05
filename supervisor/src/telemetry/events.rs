//! The things worth telling, one log line each, with the same field names everywhere.

use ipc_protocol::exit_code::ExitCode;
use std::time::Duration;

use ipc_protocol::arithmetic::Dtype;
use ipc_protocol::ids::WorkerName;
use pool::{Exit, KilledBy, Notice};
use tracing::{error, info, warn};

/// Tells one thing.
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
            error!(%name, error = %message, "Cannot start a worker.");
        }
        Notice::Ready { worker, name, load } => {
            info!(%name, generation = worker.0, load_ms = ms(*load), "Worker is ready.");
        }
        Notice::Outgrew {
            worker,
            name,
            reserved,
            measured,
        } => warn!(
            %name, generation = worker.0, reserved_mb = reserved.0, measured_mb = measured.0,
            "Worker holds more memory than was reserved for it."
        ),
        Notice::Stopping { worker, name, why } if why.is_fault() => {
            warn!(%name, generation = worker.0, reason = %why.word(), "Ending a worker.");
        }
        Notice::Stopping { worker, name, why } => {
            info!(%name, generation = worker.0, reason = %why.word(), "Ending a worker.");
        }
        Notice::Left { worker, name, why } => {
            info!(%name, generation = worker.0, reason = %why.word(), "Worker left.");
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
            %name, generation = worker.0, exit = %how(*exit), %doing, in_a_row,
            backoff_ms = ms(*backoff), "Worker died."
        ),
        Notice::NotReaped {
            worker,
            name,
            since,
        } => error!(
            %name, generation = worker.0, since_ms = ms(*since),
            "The kernel does not give a killed worker back."
        ),
        Notice::PlacedAgain {
            job,
            from_step,
            attempt,
        } => info!(job = job.0, from_step, attempt, "Job is placed again."),
        Notice::Evicted {
            name,
            for_model,
            freed,
        } => info!(%name, %for_model, freed_mb = freed.0, "Evicted an idle worker."),
        Notice::BreakerOpened {
            model,
            failures,
            last,
            for_long,
        } => {
            warn!(%model, failures, error = %last, for_ms = ms(*for_long), "Model fails too often; it rests.")
        }
        Notice::BreakerClosed { model } => info!(%model, "Model works again."),
        Notice::LoadCooling {
            model,
            message,
            for_long,
        } => warn!(%model, error = %message, for_ms = ms(*for_long), "Model cannot be loaded."),
        Notice::Quarantined {
            job,
            digest,
            evidence,
        } => warn!(
            job = job.0,
            digest,
            evidence = evidence.join("; "),
            "Job is quarantined: it ended every worker it was given to."
        ),
        Notice::Unreclaimed {
            worker,
            device,
            amount,
        } => error!(
            generation = worker.0, %device, amount_mb = amount.0,
            "A dead worker's memory did not come back."
        ),
        Notice::Draining { jobs } => info!(jobs, "Draining: nothing new is taken."),
        Notice::DrainUndone => info!("Not draining any more: requests are taken again."),
    }
}

/// Tells what a worker computes in; where that is not what was wished for, it is a warning with the reason.
pub fn computes(name: &WorkerName, wished: Dtype, dtype: Dtype, because: Option<&str>) {
    if wished == dtype {
        info!(%name, %dtype, "Worker computes in {dtype}.");
    } else {
        let because = because.unwrap_or("it does not say why");
        warn!(%name, %wished, %dtype, "Worker computes in {dtype} instead of {wished}: {because}.");
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How a process ended, in words.
fn how(exit: Exit) -> String {
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
                KilledBy::Other => "its own fault or somebody else's",
            }
        ),
    }
}
