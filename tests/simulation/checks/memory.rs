//! Memory that processes hold, or may still hold, stays within the limit of its device.

use ipc_protocol::ids::Generation;
use ipc_protocol::units::Mebibytes;
use pool::Pool;

use super::CheckResult;
use crate::observed::{Consequence, ObservedPool, ProcessRecord};

pub(super) fn check_event(observed: &ObservedPool) -> CheckResult {
    check_overflow(observed)?;
    for (&device, record) in &observed.devices {
        let sum = observed.reserved(device) + observed.settling_on(device, None);
        if sum > record.limit {
            return Err(format!(
                "{sum} MB reserved on {device}, its limit is {} MB",
                record.limit
            ));
        }
    }
    Ok(())
}

/// A worker that holds more than can be reserved endangers the others on its device: the one of all there that outgrew
/// its reservation most must exit, and no other.
fn check_overflow(observed: &ObservedPool) -> CheckResult {
    let Consequence::Overflowed(worker, _) = observed.consequence else {
        return Ok(());
    };
    let device = observed.workers[&worker].device;
    let held = |process: &ProcessRecord| observed.held(process, device) > Mebibytes::ZERO;
    let leaving = observed
        .workers
        .values()
        .any(|process| !process.is_live() && held(process));
    let mut others = observed.workers.iter().filter(|(id, _)| **id != worker);
    match leaving || !others.any(|(_, process)| held(process)) {
        true => Ok(()),
        false => Err(format!(
            "worker {worker} outgrew {device} and nobody is told to exit"
        )),
    }
}

/// Whether a worker that must exit because it outgrew its reservation did so more than any other on its device.
pub(super) fn outgrew_most(observed: &ObservedPool, process: &ProcessRecord) -> bool {
    let Consequence::Overflowed(worker, lacking) = observed.consequence else {
        return false;
    };
    let outgrown = |id: Generation, process: &ProcessRecord| match id == worker {
        true => process.growth + lacking,
        false => process.growth,
    };
    let there = observed
        .workers
        .iter()
        .filter(|(_, other)| other.device == process.device);
    let most = there.max_by_key(|(id, other)| (outgrown(**id, other), **id));
    most.is_some_and(|(id, most)| most == process && outgrown(*id, most) > Mebibytes::ZERO)
}

/// After everything has ended, no memory is reserved.
pub(super) fn check_end(observed: &ObservedPool, pool: &Pool) -> CheckResult {
    if !observed.jobs.is_empty() {
        let first = observed.jobs.keys().next();
        return Err(format!("jobs never got an answer, the first is {first:?}"));
    }
    let left = pool.total_memory_mb();
    match observed.exited && (left != 0 || !observed.workers.is_empty()) {
        true => Err(format!("{left} MB are reserved for no worker")),
        false => Ok(()),
    }
}
