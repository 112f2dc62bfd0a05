//! Memory that processes hold, or may still hold, stays within the limit of its device.

use pool::Pool;

use super::CheckResult;
use crate::observed::ObservedPool;

pub(super) fn check_event(observed: &ObservedPool) -> CheckResult {
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
