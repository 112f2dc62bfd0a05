//! Users of jobs, as texts.

/// Whether a job of `user` is one of `caller` or of a client that `caller` named: the name follows after a slash.
pub fn is_job_of(user: &str, caller: &str) -> bool {
    let rest = user.strip_prefix(caller);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
