//! A job without room is overtaken a bounded number of times and for a bounded time.

use std::collections::BTreeMap;

use ipc_protocol::ids::{Device, JobId};
use pool::{Action, Moment, Run};

use super::standing::Standing;
use super::trouble::Trouble;
use crate::scene::{Scene, Task};
use crate::shadow::Verdict;

#[derive(Debug, Default)]
pub(super) struct Overtakes {
    counts: BTreeMap<JobId, u32>,
}

impl Overtakes {
    pub(super) fn check(
        &mut self,
        scene: &Scene,
        trouble: &Trouble,
        now: Moment,
        action: &Action,
    ) -> Verdict {
        match action {
            Action::Run(run) if scene.devices.len() == 1 && !scene.settings.fifo => {
                self.run(scene, trouble, now, run)
            }
            Action::Answer { job, .. } => {
                self.counts.remove(job);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn run(&mut self, scene: &Scene, trouble: &Trouble, now: Moment, run: &Run) -> Verdict {
        let Some(by) = scene.workers.get(&run.worker).map(|hand| &hand.name.model) else {
            return Ok(());
        };
        for (key, model) in scene.models.iter().filter(|(key, _)| *key != by) {
            let may = matches!(
                trouble.standing(scene, key, now),
                Standing::Well | Standing::Probing
            );
            let need = scene.need(model, Device::Host).unwrap_or_default();
            let best = scene.at_best(Device::Host, &scene.staying());
            let lacks = !need.is_empty()
                && !scene.has_room(&need)
                && need.values().all(|&part| part <= best);
            if !may || !model.offered || scene.live(key).next().is_some() || !lacks {
                continue;
            }
            for (id, task) in scene.waiting(key).take_while(|(id, _)| *id < run.job) {
                self.passed(scene, now, id, task, run)?;
            }
        }
        Ok(())
    }

    fn passed(&mut self, scene: &Scene, now: Moment, id: JobId, task: &Task, run: &Run) -> Verdict {
        let count = self.counts.entry(id).or_default();
        *count += 1;
        let late = task.accepted + scene.settings.max_overtake <= now;
        match late || *count > scene.settings.max_overtakes {
            true => Err(format!(
                "job {} overtakes job {id} of {}, the {count}. that does, which waits since {}",
                run.job, task.model, task.accepted
            )),
            false => Ok(()),
        }
    }
}
