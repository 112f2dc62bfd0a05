//! The order of jobs follows priority classes and fair shares.
//!
//! Worlds with one model and one device, where only its turn keeps a job waiting.

use std::collections::{BTreeMap, BTreeSet};

use ipc_protocol::ids::JobId;
use ipc_protocol::request::Priority;
use pool::{Action, Run};

use super::CheckResult;
use crate::observed::{JobRecord, ObservedPool};

#[derive(Debug, Default)]
pub(super) struct FairShares {
    watches: bool,
    /// How often each class was passed over while it waited.
    passed: [u32; 3],
    /// How much more one user was given than another while both waited, by class.
    ahead: BTreeMap<(usize, String, String), i64>,
    most: i64,
    users: BTreeSet<String>,
    /// The first job of each user, and the users whose jobs ran before it.
    newcomers: BTreeMap<JobId, BTreeSet<String>>,
}

const CLASSES: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

fn class(record: &JobRecord) -> usize {
    CLASSES
        .iter()
        .position(|of| *of == record.priority)
        .unwrap_or(1)
}

/// Steps times pixels.
fn cost(record: &JobRecord) -> i64 {
    i64::try_from(u64::from(record.parameters.steps) * record.parameters.size.pixels() / 4096)
        .unwrap_or(i64::MAX)
        + i64::from(record.parameters.steps)
}

/// Those that wait and never ran.
fn fresh(observed: &ObservedPool) -> impl Iterator<Item = &JobRecord> {
    observed
        .jobs
        .values()
        .filter(|record| record.on.is_none() && !record.again)
}

impl FairShares {
    pub(super) fn new(observed: &ObservedPool) -> Self {
        let alone = observed.models.len() == 1 && observed.devices.len() == 1;
        Self {
            watches: alone,
            ..Self::default()
        }
    }

    pub(super) fn check(&mut self, observed: &ObservedPool, action: &Action) -> CheckResult {
        match action {
            Action::Run(run) if self.watches => self.run(observed, run),
            _ => Ok(()),
        }
    }

    fn run(&mut self, observed: &ObservedPool, run: &Run) -> CheckResult {
        let Some(record) = observed.jobs.get(&run.job) else {
            return Ok(());
        };
        let mut waiting = observed
            .jobs
            .iter()
            .filter(|(_, record)| record.on.is_none());
        if observed.settings.fifo {
            return match waiting.next() {
                Some((first, _)) if *first != run.job => Err(format!(
                    "job {} runs before job {first}, which came first",
                    run.job
                )),
                _ => Ok(()),
            };
        }
        if record.again {
            return Ok(());
        }
        if let Some((lost, _)) = waiting.find(|(_, record)| record.again) {
            return Err(format!(
                "job {} runs before job {lost}, which lost its worker",
                run.job
            ));
        }
        if record.attempts == 0 {
            self.check_newcomers(observed, run.job, record)?;
        }
        self.check_class(observed, record)?;
        self.check_user(observed, record)
    }

    /// A user's first job waits for at most one job of each other user.
    fn check_newcomers(
        &mut self,
        observed: &ObservedPool,
        job: JobId,
        by: &JobRecord,
    ) -> CheckResult {
        self.newcomers.remove(&job);
        for (id, before) in &mut self.newcomers {
            let Some(record) = observed.jobs.get(id) else {
                continue;
            };
            let behind = record.user != by.user && record.priority == by.priority;
            if behind && !before.insert(by.user.clone()) {
                return Err(format!(
                    "two jobs of {} ran before the first job {id} of {}",
                    by.user, record.user
                ));
            }
        }
        Ok(())
    }

    fn check_class(&mut self, observed: &ObservedPool, record: &JobRecord) -> CheckResult {
        let (own, most) = (class(record), observed.settings.max_overtakes.max(1));
        let first = (0..3).find(|&of| fresh(observed).any(|record| class(record) == of));
        let due = (0..3).find(|&of| self.passed[of] >= most);
        if due.or(first) != Some(own) {
            return Err(format!(
                "class {own} runs, {first:?} is first and {due:?} was passed over {:?} times",
                self.passed
            ));
        }
        for lower in own + 1..3 {
            let waits = fresh(observed).any(|record| class(record) == lower);
            self.passed[lower] += u32::from(waits);
        }
        self.passed[own] = 0;
        Ok(())
    }

    /// While two users wait, neither is given more than one job's worth more than the other.
    fn check_user(&mut self, observed: &ObservedPool, record: &JobRecord) -> CheckResult {
        let (own, cost) = (class(record), cost(record));
        self.most = self.most.max(cost);
        let others: BTreeSet<&String> = fresh(observed)
            .filter(|other| class(other) == own && other.user != record.user)
            .map(|other| &other.user)
            .collect();
        for other in others {
            let lead = self
                .ahead
                .entry((own, record.user.clone(), other.clone()))
                .or_default();
            *lead += cost;
            if *lead > 2 * self.most {
                return Err(format!(
                    "{} was given {lead} more than {other}, who waits",
                    record.user
                ));
            }
            let behind = self
                .ahead
                .entry((own, other.clone(), record.user.clone()))
                .or_default();
            *behind -= cost;
        }
        Ok(())
    }

    /// Notes that a job which stops waiting takes its account with it.
    pub(super) fn note(&mut self, observed: &ObservedPool, action: &Action) {
        if !self.watches {
            return;
        }
        match action {
            Action::Accept(accepted) => self.note_users(observed, &accepted.jobs),
            Action::Answer { job, .. } => {
                self.newcomers.remove(job);
            }
            Action::Run(_) => {}
            _ => return,
        }
        for of in 0..3 {
            if fresh(observed).all(|record| class(record) != of) {
                self.passed[of] = 0;
            }
        }
        self.ahead.retain(|(of, one, two), _| {
            let waits = |user: &String| fresh(observed).any(|t| class(t) == *of && t.user == *user);
            waits(one) && waits(two)
        });
    }

    fn note_users(&mut self, observed: &ObservedPool, jobs: &[JobId]) {
        let first = jobs
            .first()
            .and_then(|id| Some((*id, observed.jobs.get(id)?)));
        if let Some((id, record)) = first
            && self.users.insert(record.user.clone())
        {
            self.newcomers.insert(id, BTreeSet::new());
        }
    }
}
