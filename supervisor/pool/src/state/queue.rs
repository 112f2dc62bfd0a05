//! The queue of one model, and which of its jobs is next.
//!
//! Jobs that lost their worker go first, then priority classes, then shares: within a class the user with the
//! smallest account goes next; accounts count estimated cost. A user who returns starts at the class's present
//! level, so no credit is saved up and no debt is inherited. The first job of a new user waits for at most one
//! job of each other user.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipc_protocol::ids::JobId;
use ipc_protocol::request::Priority;

/// Jobs that wait for one model.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    all: BTreeSet<JobId>,
    again: BTreeSet<JobId>,
    classes: [Class; 3],
}

/// A job's entry in a queue.
#[derive(Debug, Clone)]
pub(crate) struct QueueEntry {
    job: JobId,
    priority: Priority,
    user: Arc<str>,
    cost: u64,
}

impl QueueEntry {
    /// The user whom it counts for.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// An entry for `job`, which costs `user` `cost`.
    pub(crate) fn new(job: JobId, priority: Priority, user: Arc<str>, cost: u64) -> Self {
        Self {
            job,
            priority,
            user,
            cost,
        }
    }

    pub(crate) fn job(&self) -> JobId {
        self.job
    }
}

/// How the next job is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueRule {
    /// By arrival.
    Arrival,
    /// By classes and shares; no class is passed over more often than this in a row.
    Shares(u32),
}

#[derive(Debug, Default)]
struct Class {
    lanes: BTreeMap<Arc<str>, Lane>,
    waiting: usize,
    level: u64,
    passed_over: u32,
}

#[derive(Debug, Default)]
struct Lane {
    jobs: BTreeSet<JobId>,
    given: u64,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Every job that waits, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = JobId> {
        self.all.iter().copied()
    }

    /// Jobs that came before `job`, oldest first.
    pub(crate) fn before(&self, job: JobId) -> impl Iterator<Item = JobId> {
        self.all.range(..job).copied()
    }

    pub(crate) fn oldest(&self) -> Option<JobId> {
        self.all.first().copied()
    }

    /// Adds a new job.
    pub(crate) fn push(&mut self, entry: &QueueEntry) {
        self.all.insert(entry.job);
        let class = &mut self.classes[class_of(entry.priority)];
        class.waiting += 1;
        let level = class.level;
        let lane = class.lanes.entry(entry.user.clone()).or_default();
        if lane.jobs.is_empty() {
            lane.given = lane.given.max(level);
        }
        lane.jobs.insert(entry.job);
    }

    /// Adds a job that lost its worker: it goes first.
    pub(crate) fn push_again(&mut self, job: JobId) {
        self.all.insert(job);
        self.again.insert(job);
    }

    /// The next job that `fits`.
    pub(crate) fn next(&self, rule: QueueRule, fits: impl Fn(JobId) -> bool) -> Option<JobId> {
        match rule {
            QueueRule::Arrival => self.all.iter().copied().find(|&job| fits(job)),
            QueueRule::Shares(passes_max) => {
                let again = self.again.iter().copied().find(|&job| fits(job));
                again.or_else(|| self.next_in_classes(passes_max, &fits))
            }
        }
    }

    /// Takes a job out to run it: its user is charged, lower classes were passed over.
    pub(crate) fn take(&mut self, entry: &QueueEntry) {
        if !self.again.contains(&entry.job) {
            self.charge(entry);
        }
        self.remove(entry);
    }

    /// Takes a job out that will not run.
    pub(crate) fn remove(&mut self, entry: &QueueEntry) {
        self.all.remove(&entry.job);
        if self.again.remove(&entry.job) {
            return;
        }
        let class = &mut self.classes[class_of(entry.priority)];
        if let Some(lane) = class.lanes.get_mut(&entry.user)
            && lane.jobs.remove(&entry.job)
        {
            class.waiting -= 1;
        }
        let level = class.level;
        class
            .lanes
            .retain(|_, lane| !lane.jobs.is_empty() || lane.given > level);
        if class.waiting == 0 {
            class.passed_over = 0;
        }
    }

    fn charge(&mut self, entry: &QueueEntry) {
        let of = class_of(entry.priority);
        for lower in &mut self.classes[of + 1..] {
            lower.passed_over += u32::from(lower.waiting > 0);
        }
        let class = &mut self.classes[of];
        class.passed_over = 0;
        if let Some(lane) = class.lanes.get_mut(&entry.user) {
            class.level = class.level.max(lane.given);
            lane.given += entry.cost.max(1);
        }
    }

    fn next_in_classes(&self, passes_max: u32, fits: &impl Fn(JobId) -> bool) -> Option<JobId> {
        let starving = |class: &&Class| class.waiting > 0 && class.passed_over >= passes_max.max(1);
        let first = self.classes.iter().find(starving);
        let order = first.into_iter().chain(&self.classes);
        order
            .filter(|class| class.waiting > 0)
            .find_map(|class| class.next(fits))
    }
}

impl Class {
    fn next(&self, fits: &impl Fn(JobId) -> bool) -> Option<JobId> {
        let first_of = |lane: &Lane| lane.jobs.iter().copied().find(|&job| fits(job));
        let heads = self
            .lanes
            .values()
            .filter_map(|lane| Some((lane.given, first_of(lane)?)));
        heads.min().map(|(_, job)| job)
    }
}

fn class_of(priority: Priority) -> usize {
    match priority {
        Priority::High => 0,
        Priority::Normal => 1,
        Priority::Low => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARES: QueueRule = QueueRule::Shares(8);

    fn entry(job: u64, user: &str, priority: Priority) -> QueueEntry {
        QueueEntry {
            job: JobId(job),
            priority,
            user: user.into(),
            cost: 10,
        }
    }

    fn drawn(queue: &mut Queue, entries: &[QueueEntry], rule: QueueRule, count: usize) -> Vec<u64> {
        let mut drawn = Vec::new();
        while drawn.len() < count {
            let Some(job) = queue.next(rule, |_| true) else {
                break;
            };
            let found = entries.iter().find(|entry| entry.job == job);
            queue.take(found.expect("the queue holds only what was pushed"));
            drawn.push(job.0);
        }
        drawn
    }

    #[test]
    fn a_new_user_waits_for_at_most_one_job_of_each_other_user() {
        let mut entries: Vec<QueueEntry> = (0..50)
            .map(|i| entry(i, "flood", Priority::Normal))
            .collect();
        entries.extend((50..60).map(|i| entry(i, "other", Priority::Normal)));
        let mut queue = Queue::default();
        entries.iter().for_each(|entry| queue.push(entry));
        drawn(&mut queue, &entries, SHARES, 20);
        let victim = entry(99, "victim", Priority::Normal);
        queue.push(&victim);
        entries.push(victim);
        let next = drawn(&mut queue, &entries, SHARES, 3);
        assert!(next.contains(&99), "{next:?}");
    }

    #[test]
    fn a_job_that_lost_its_worker_goes_first() {
        let entries = [entry(1, "a", Priority::High), entry(2, "a", Priority::Low)];
        let mut queue = Queue::default();
        queue.push(&entries[0]);
        queue.push_again(JobId(2));
        assert_eq!(drawn(&mut queue, &entries, SHARES, 2), [2, 1]);
    }

    #[test]
    fn a_lower_class_is_passed_over_no_more_often_than_the_setting_says() {
        let mut entries: Vec<QueueEntry> = (0..20).map(|i| entry(i, "a", Priority::High)).collect();
        entries.push(entry(99, "b", Priority::Low));
        let mut queue = Queue::default();
        entries.iter().for_each(|entry| queue.push(entry));
        let order = drawn(&mut queue, &entries, SHARES, 21);
        assert_eq!(order.iter().position(|&job| job == 99), Some(8));
    }

    #[test]
    fn by_arrival_no_class_goes_first() {
        let entries = [entry(1, "a", Priority::Low), entry(2, "b", Priority::High)];
        let mut queue = Queue::default();
        entries.iter().for_each(|entry| queue.push(entry));
        assert_eq!(drawn(&mut queue, &entries, QueueRule::Arrival, 2), [1, 2]);
    }
}
