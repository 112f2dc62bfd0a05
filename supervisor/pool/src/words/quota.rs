//! The quotas of users: jobs within an hour, models, priority.

use std::collections::BTreeMap;

use ipc_protocol::request::Priority;

/// The limits of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserQuota {
    /// Jobs accepted within any hour; `None` for any number.
    pub jobs_per_hour: Option<u32>,
    /// Keys or aliases of the models that the user may request; `None` is every model.
    pub models: Option<Vec<String>>,
    /// The highest priority that the user may request.
    pub priority_max: Priority,
}

impl Default for UserQuota {
    fn default() -> Self {
        Self {
            jobs_per_hour: None,
            models: None,
            priority_max: Priority::High,
        }
    }
}

/// The quotas of all users that have one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quotas {
    /// By account, e.g. `uid:1000` or `token:chat`.
    pub accounts: BTreeMap<String, UserQuota>,
    /// Further names of accounts: a user's name, and the account that it counts for.
    pub names: BTreeMap<String, String>,
    /// The quota of each account that has none of its own.
    pub others: Option<UserQuota>,
}

impl Quotas {
    /// The account that the jobs of `user` count for, and its quota, if it has one. `ACCOUNT/NAME` is a client of an
    /// account.
    pub(crate) fn of<'a>(&'a self, user: &'a str) -> Option<(&'a str, &'a UserQuota)> {
        let account = user.split('/').next().unwrap_or(user);
        let account = self.names.get(account).map_or(account, String::as_str);
        let quota = self.accounts.get(account).or(self.others.as_ref())?;
        Some((account, quota))
    }
}

impl UserQuota {
    /// The priority of a request that names none: the usual one, or the highest that is permitted.
    pub(crate) fn lowered(&self, asked: Priority) -> Priority {
        match (asked, self.priority_max) {
            (Priority::Normal, Priority::Low) => Priority::Low,
            (asked, _) => asked,
        }
    }

    /// Whether the user may request this priority. Normal is the default, which [`UserQuota::lowered`] lowers.
    pub(crate) fn permits(&self, asked: Priority) -> bool {
        match (self.priority_max, asked) {
            (Priority::High, _) | (_, Priority::Normal | Priority::Low) => true,
            (Priority::Normal | Priority::Low, Priority::High) => false,
        }
    }
}
