//! The jobs that each account got within the last hour.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::words::moment::Moment;

/// The time that a quota of jobs is about.
const HOUR: Duration = Duration::from_secs(3600);

/// Accepted jobs by account, of the last hour. Accounts without a limit of jobs are not in it.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    accepted: BTreeMap<String, VecDeque<(Moment, u32)>>,
}

impl Usage {
    /// Notes `count` accepted jobs, and forgets those that are older than an hour.
    pub(crate) fn note(&mut self, account: &str, count: u32, now: Moment) {
        self.accepted.retain(|_, jobs| {
            jobs.retain(|&(at, _)| at + HOUR > now);
            !jobs.is_empty()
        });
        let jobs = self.accepted.entry(account.to_owned()).or_default();
        jobs.push_back((now, count));
    }

    /// Jobs accepted within the last hour.
    pub(crate) fn used(&self, account: &str, now: Moment) -> u32 {
        self.recent(account, now).map(|(_, count)| count).sum()
    }

    /// When `wanted` more jobs are within `limit`: `now` if they are, `None` if they never will be.
    pub(crate) fn opens_at(
        &self,
        account: &str,
        (limit, wanted): (u32, u32),
        now: Moment,
    ) -> Option<Moment> {
        let room = limit.checked_sub(wanted)?;
        let mut used = self.used(account, now);
        let mut opens = now;
        for (at, count) in self.recent(account, now) {
            if used <= room {
                break;
            }
            used -= count;
            opens = at + HOUR;
        }
        Some(opens)
    }

    fn recent(&self, account: &str, now: Moment) -> impl Iterator<Item = (Moment, u32)> {
        let jobs = self.accepted.get(account).into_iter().flatten();
        jobs.copied().filter(move |&(at, _)| at + HOUR > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: u64) -> Moment {
        Moment::START + Duration::from_secs(60 * minutes)
    }

    #[test]
    fn a_full_quota_opens_when_enough_jobs_are_an_hour_old() {
        let mut usage = Usage::default();
        usage.note("uid:1", 2, at(0));
        usage.note("uid:1", 3, at(10));
        assert_eq!(usage.used("uid:1", at(20)), 5);
        assert_eq!(usage.opens_at("uid:1", (6, 1), at(20)), Some(at(20)));
        assert_eq!(usage.opens_at("uid:1", (6, 2), at(20)), Some(at(60)));
        assert_eq!(usage.opens_at("uid:1", (6, 4), at(20)), Some(at(70)));
        assert_eq!(usage.opens_at("uid:1", (6, 7), at(20)), None);
        assert_eq!(usage.opens_at("uid:2", (6, 6), at(20)), Some(at(20)));
    }

    #[test]
    fn jobs_of_more_than_an_hour_ago_are_forgotten() {
        let mut usage = Usage::default();
        usage.note("uid:1", 2, at(0));
        assert_eq!(usage.used("uid:1", at(60)), 0);
        usage.note("uid:2", 1, at(61));
        assert_eq!(usage.accepted.len(), 1);
    }
}
