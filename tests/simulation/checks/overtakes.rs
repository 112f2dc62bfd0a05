//! A job without room is overtaken a bounded number of times and for a bounded time.

use std::collections::{BTreeMap, BTreeSet};

use ipc_protocol::ids::{Device, JobId};
use pool::{Action, Moment, Run};

use super::CheckResult;
use super::failures::ModelFailures;
use super::standing::ModelStanding;
use crate::observed::{JobRecord, ObservedPool};

#[derive(Debug, Default)]
pub(super) struct OvertakeCounts {
    counts: BTreeMap<JobId, u32>,
    /// The jobs that this event answers. They wait for nothing any more: the start that leaves no room for them may come
    /// before their answers.
    answered: BTreeSet<JobId>,
}

impl OvertakeCounts {
    /// Notes the jobs that an event answers.
    pub(super) fn note_event(&mut self, actions: &[Action]) {
        let answered = actions.iter().filter_map(|action| match action {
            Action::Answer { job, .. } => Some(*job),
            _ => None,
        });
        self.answered = answered.collect();
    }

    pub(super) fn check(
        &mut self,
        observed: &ObservedPool,
        failures: &ModelFailures,
        now: Moment,
        action: &Action,
    ) -> CheckResult {
        match action {
            Action::Run(run) if observed.devices.len() == 1 && !observed.settings.fifo => {
                self.run(observed, failures, now, run)
            }
            Action::Answer { job, .. } => {
                self.counts.remove(job);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn run(
        &mut self,
        observed: &ObservedPool,
        failures: &ModelFailures,
        now: Moment,
        run: &Run,
    ) -> CheckResult {
        let Some(by) = observed
            .workers
            .get(&run.worker)
            .map(|process| &process.name.model)
        else {
            return Ok(());
        };
        for (key, model) in observed.models.iter().filter(|(key, _)| *key != by) {
            let may = matches!(
                failures.standing(observed, key, now),
                ModelStanding::Well | ModelStanding::Probing
            );
            let need = observed.need(model, Device::Host).unwrap_or_default();
            let best = observed.at_best(Device::Host, &observed.staying());
            let lacks = !need.is_empty()
                && !observed.has_room(&need)
                && need.values().all(|&part| part <= best);
            if !may || observed.live(key).next().is_some() || !lacks {
                continue;
            }
            let waiting = observed.waiting(key).take_while(|(id, _)| *id < run.job);
            for (id, record) in waiting {
                if self.answered.contains(&id) {
                    continue;
                }
                self.passed(observed, now, id, record, run)?;
            }
        }
        Ok(())
    }

    fn passed(
        &mut self,
        observed: &ObservedPool,
        now: Moment,
        id: JobId,
        record: &JobRecord,
        run: &Run,
    ) -> CheckResult {
        let count = self.counts.entry(id).or_default();
        *count += 1;
        let late = record.accepted + observed.settings.max_overtake <= now;
        match late || *count > observed.settings.max_overtakes {
            true => Err(format!(
                "job {} overtakes job {id} of {}, the {count}. that does, which waits since {}",
                run.job, record.model, record.accepted
            )),
            false => Ok(()),
        }
    }
}
