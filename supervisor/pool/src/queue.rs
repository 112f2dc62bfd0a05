//! Who is next among the jobs that wait for one model.
//!
//! Lost work first, then classes, then shares: within a class the user who was given least so far
//! goes next, measured in estimated cost. A user who comes back starts at the present level, so
//! nobody saves up and nobody pays for others' past; the first job of a newcomer waits for at most
//! one job of each other user.

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

/// Where a job stands in a queue.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) job: JobId,
    pub(crate) priority: Priority,
    pub(crate) user: Arc<str>,
    pub(crate) cost: u64,
}

/// How the next job is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Strictly by arrival.
    Arrival,
    /// By classes and shares; a class is passed over at most so many times in a row.
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
    pub(crate) fn push(&mut self, place: &Place) {
        self.all.insert(place.job);
        let class = &mut self.classes[class_of(place.priority)];
        class.waiting += 1;
        let level = class.level;
        let lane = class.lanes.entry(place.user.clone()).or_default();
        if lane.jobs.is_empty() {
            lane.given = lane.given.max(level);
        }
        lane.jobs.insert(place.job);
    }

    /// Adds a job that lost its worker: it goes first.
    pub(crate) fn push_again(&mut self, job: JobId) {
        self.all.insert(job);
        self.again.insert(job);
    }

    /// The next job that `fits`.
    pub(crate) fn next(&self, order: Order, fits: impl Fn(JobId) -> bool) -> Option<JobId> {
        match order {
            Order::Arrival => self.all.iter().copied().find(|&job| fits(job)),
            Order::Shares(passes_max) => {
                let again = self.again.iter().copied().find(|&job| fits(job));
                again.or_else(|| self.next_in_classes(passes_max, &fits))
            }
        }
    }

    /// Takes a job out to run it: its user is charged, lower classes were passed over.
    pub(crate) fn take(&mut self, place: &Place) {
        if !self.again.contains(&place.job) {
            self.charge(place);
        }
        self.remove(place);
    }

    /// Takes a job out that will not run.
    pub(crate) fn remove(&mut self, place: &Place) {
        self.all.remove(&place.job);
        if self.again.remove(&place.job) {
            return;
        }
        let class = &mut self.classes[class_of(place.priority)];
        if let Some(lane) = class.lanes.get_mut(&place.user)
            && lane.jobs.remove(&place.job)
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

    fn charge(&mut self, place: &Place) {
        let of = class_of(place.priority);
        for lower in &mut self.classes[of + 1..] {
            lower.passed_over += u32::from(lower.waiting > 0);
        }
        let class = &mut self.classes[of];
        class.passed_over = 0;
        if let Some(lane) = class.lanes.get_mut(&place.user) {
            class.level = class.level.max(lane.given);
            lane.given += place.cost.max(1);
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

    const SHARES: Order = Order::Shares(8);

    fn place(job: u64, user: &str, priority: Priority) -> Place {
        Place {
            job: JobId(job),
            priority,
            user: user.into(),
            cost: 10,
        }
    }

    fn drawn(queue: &mut Queue, places: &[Place], order: Order, count: usize) -> Vec<u64> {
        let mut drawn = Vec::new();
        while drawn.len() < count {
            let Some(job) = queue.next(order, |_| true) else {
                break;
            };
            let place = places.iter().find(|place| place.job == job);
            queue.take(place.expect("the queue holds only what was pushed"));
            drawn.push(job.0);
        }
        drawn
    }

    #[test]
    fn a_newcomer_waits_for_at_most_one_job_of_each_other_user() {
        let mut places: Vec<Place> = (0..50)
            .map(|i| place(i, "flood", Priority::Normal))
            .collect();
        places.extend((50..60).map(|i| place(i, "other", Priority::Normal)));
        let mut queue = Queue::default();
        places.iter().for_each(|place| queue.push(place));
        drawn(&mut queue, &places, SHARES, 20);
        let victim = place(99, "victim", Priority::Normal);
        queue.push(&victim);
        places.push(victim);
        let next = drawn(&mut queue, &places, SHARES, 3);
        assert!(next.contains(&99), "{next:?}");
    }

    #[test]
    fn lost_work_goes_first() {
        let places = [place(1, "a", Priority::High), place(2, "a", Priority::Low)];
        let mut queue = Queue::default();
        queue.push(&places[0]);
        queue.push_again(JobId(2));
        assert_eq!(drawn(&mut queue, &places, SHARES, 2), [2, 1]);
    }

    #[test]
    fn a_lower_class_is_passed_over_at_most_so_often() {
        let mut places: Vec<Place> = (0..20).map(|i| place(i, "a", Priority::High)).collect();
        places.push(place(99, "b", Priority::Low));
        let mut queue = Queue::default();
        places.iter().for_each(|place| queue.push(place));
        let order = drawn(&mut queue, &places, SHARES, 21);
        assert_eq!(order.iter().position(|&job| job == 99), Some(8));
    }

    #[test]
    fn in_order_of_arrival_nobody_goes_first() {
        let places = [place(1, "a", Priority::Low), place(2, "b", Priority::High)];
        let mut queue = Queue::default();
        places.iter().for_each(|place| queue.push(place));
        assert_eq!(drawn(&mut queue, &places, Order::Arrival, 2), [1, 2]);
    }
}
