//! Whether a request is within its user's quota.

use ipc_protocol::failure::{Failure, FailureKind, Field};

use crate::state::State;
use crate::words::moment::{Moment, ms};
use crate::words::new_request::NewRequest;
use crate::words::quota::UserQuota;
use crate::words::registry::ModelId;

/// The most jobs of a user within an hour, if they are limited.
pub(crate) fn jobs_per_hour(state: &State, user: &str) -> Option<usize> {
    let quotas = &state.settings().quotas;
    let (_, quota) = quotas.of(user)?;
    usize::try_from(quota.jobs_per_hour?).ok()
}

/// Refuses a request that its user's quota does not permit.
///
/// # Errors
/// `NotPermitted` for a model or a priority, `QuotaExceeded` with the time at which the jobs are permitted.
pub(crate) fn check_quota(
    state: &State,
    now: Moment,
    id: ModelId,
    asked: &NewRequest,
) -> Result<(), Failure> {
    let Some((account, quota)) = state.settings().quotas.of(&asked.user) else {
        return Ok(());
    };
    check_model(state, id, account, quota)?;
    if !quota.permits(asked.request.priority) {
        return Err(Failure::new(
            FailureKind::NotPermitted,
            format!(
                "priority {} is more than {account} may request: use {} or leave it out",
                asked.request.priority, quota.priority_max
            ),
        ));
    }
    match quota.jobs_per_hour {
        Some(limit) => check_jobs(state, now, account, limit, asked.request.count),
        None => Ok(()),
    }
}

fn check_model(
    state: &State,
    id: ModelId,
    account: &str,
    quota: &UserQuota,
) -> Result<(), Failure> {
    let spec = state.model(id).spec();
    let names = |name: &String| spec.key.as_str() == name || spec.aliases.contains(name);
    match &quota.models {
        Some(models) if !models.iter().any(names) => Err(Failure {
            field: Some(Field::Model),
            ..Failure::new(
                FailureKind::NotPermitted,
                format!(
                    "{account} may not use {}: use {}",
                    spec.key,
                    models.join(" or ")
                ),
            )
        }),
        Some(_) | None => Ok(()),
    }
}

fn check_jobs(
    state: &State,
    now: Moment,
    account: &str,
    limit: u32,
    wanted: u32,
) -> Result<(), Failure> {
    let usage = state.usage();
    let opens = match usage.opens_at(account, (limit, wanted), now) {
        Some(opens) if opens > now => opens,
        // More than the limit at once is refused as a value.
        Some(_) | None => return Ok(()),
    };
    let left_ms = ms(opens.since(now));
    let used = usage.used(account, now);
    let message = format!(
        "quota full: {account} had {used} of {limit} jobs within the last hour, {wanted} wanted; open again in {} s",
        left_ms.div_ceil(1000)
    );
    Err(Failure::new(FailureKind::QuotaExceeded, message).retry_after_ms(left_ms.max(1)))
}
