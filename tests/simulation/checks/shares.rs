//! The order of jobs follows priority classes and fair shares.
//!
//! Worlds with one model and one device, where only its turn keeps a job waiting.

use std::collections::BTreeMap;

use ipc_protocol::request::Priority;
use pool::{Action, Run};

use crate::scene::{Scene, Task};
use crate::shadow::Verdict;

#[derive(Debug, Default)]
pub(super) struct Shares {
    watches: bool,
    /// How often each class was passed over while it waited.
    passed: [u32; 3],
    /// How much more one user was given than another while both waited, by class.
    ahead: BTreeMap<(usize, String, String), i64>,
    most: i64,
}

const CLASSES: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

fn class(task: &Task) -> usize {
    CLASSES
        .iter()
        .position(|of| *of == task.priority)
        .unwrap_or(1)
}

/// Steps times pixels.
fn cost(task: &Task) -> i64 {
    i64::try_from(u64::from(task.steps) * task.size.pixels() / 4096).unwrap_or(i64::MAX)
        + i64::from(task.steps)
}

/// Those that wait and never ran.
fn fresh(scene: &Scene) -> impl Iterator<Item = &Task> {
    scene
        .jobs
        .values()
        .filter(|task| task.on.is_none() && !task.again)
}

impl Shares {
    pub(super) fn new(scene: &Scene) -> Self {
        let alone = scene.models.len() == 1 && scene.devices.len() == 1;
        Self {
            watches: alone,
            ..Self::default()
        }
    }

    pub(super) fn check(&mut self, scene: &Scene, action: &Action) -> Verdict {
        match action {
            Action::Run(run) if self.watches => self.run(scene, run),
            _ => Ok(()),
        }
    }

    fn run(&mut self, scene: &Scene, run: &Run) -> Verdict {
        let Some(task) = scene.jobs.get(&run.job) else {
            return Ok(());
        };
        let mut waiting = scene.jobs.iter().filter(|(_, task)| task.on.is_none());
        if scene.settings.fifo {
            return match waiting.next() {
                Some((first, _)) if *first != run.job => Err(format!(
                    "job {} runs before job {first}, which came first",
                    run.job
                )),
                _ => Ok(()),
            };
        }
        if task.again {
            return Ok(());
        }
        if let Some((lost, _)) = waiting.find(|(_, task)| task.again) {
            return Err(format!(
                "job {} runs before job {lost}, which lost its worker",
                run.job
            ));
        }
        self.check_class(scene, task)?;
        self.check_user(scene, task)
    }

    fn check_class(&mut self, scene: &Scene, task: &Task) -> Verdict {
        let (own, most) = (class(task), scene.settings.max_overtakes.max(1));
        let first = (0..3).find(|&of| fresh(scene).any(|task| class(task) == of));
        let due = (0..3).find(|&of| self.passed[of] >= most);
        if due.or(first) != Some(own) {
            return Err(format!(
                "class {own} runs, {first:?} is first and {due:?} was passed over {:?} times",
                self.passed
            ));
        }
        for lower in own + 1..3 {
            let waits = fresh(scene).any(|task| class(task) == lower);
            self.passed[lower] += u32::from(waits);
        }
        self.passed[own] = 0;
        Ok(())
    }

    /// While two users wait, neither is given more than one job's worth more than the other.
    fn check_user(&mut self, scene: &Scene, task: &Task) -> Verdict {
        let (own, cost) = (class(task), cost(task));
        self.most = self.most.max(cost);
        let others: std::collections::BTreeSet<&String> = fresh(scene)
            .filter(|other| class(other) == own && other.user != task.user)
            .map(|other| &other.user)
            .collect();
        for other in others {
            let lead = self
                .ahead
                .entry((own, task.user.clone(), other.clone()))
                .or_default();
            *lead += cost;
            if *lead > 2 * self.most {
                return Err(format!(
                    "{} was given {lead} more than {other}, who waits",
                    task.user
                ));
            }
            let behind = self
                .ahead
                .entry((own, other.clone(), task.user.clone()))
                .or_default();
            *behind -= cost;
        }
        Ok(())
    }

    /// Who stops waiting takes its account with it.
    pub(super) fn note(&mut self, scene: &Scene, action: &Action) {
        if !self.watches || !matches!(action, Action::Run(_) | Action::Answer { .. }) {
            return;
        }
        for of in 0..3 {
            if fresh(scene).all(|task| class(task) != of) {
                self.passed[of] = 0;
            }
        }
        self.ahead.retain(|(of, one, two), _| {
            let waits = |user: &String| fresh(scene).any(|t| class(t) == *of && t.user == *user);
            waits(one) && waits(two)
        });
    }
}
