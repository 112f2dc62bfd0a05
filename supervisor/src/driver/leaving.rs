//! Changed models whose workers from before have not all left, and the updates that wait for them.

use std::collections::BTreeMap;

use ipc_protocol::ids::ModelKey;

use super::Driver;
use super::settings::{LeavingModel, UnfinishedUpdate};
use crate::catalogue::difference::ModelChange;

impl Driver {
    /// Answers the updates whose changed models have no workers from before.
    pub(super) fn finish_updates(&mut self) {
        self.note_left();
        let leaving = &self.settings.leaving;
        let is_done = |update: &mut UnfinishedUpdate| {
            let mut changed = update.changes.keys();
            update.answer.is_closed() || !changed.any(|key| leaving.contains_key(key))
        };
        let done: Vec<UnfinishedUpdate> =
            self.settings.unfinished.extract_if(.., is_done).collect();
        for UnfinishedUpdate {
            changes,
            mut told,
            answer,
        } in done
        {
            let (changes, undone): (BTreeMap<_, _>, BTreeMap<_, _>) =
                changes.into_iter().partition(|(key, change)| {
                    let is_removed = *change == ModelChange::Removed;
                    self.settings.offered.contains_key(key) != is_removed
                });
            told.lines.extend(lines(&changes).into_iter().flatten());
            told.success &= undone.is_empty();
            let undone = undone.keys();
            told.lines.extend(
                undone.map(|key| format!("{key}: ERROR (another update undid the change)")),
            );
            // A door that left needs no answer.
            let _ = answer.send(Ok(told));
        }
    }

    /// Notes which workers the changes of models outdate.
    pub(super) fn note_leaving(&mut self, changes: &BTreeMap<ModelKey, ModelChange>) {
        for (key, &change) in changes {
            if change == ModelChange::Adjusted {
                continue;
            }
            let own = self
                .workers
                .iter()
                .filter(|(worker, handle)| handle.model == *key && self.pool.is_leaving(**worker));
            let workers = own.map(|(worker, _)| *worker).collect();
            let leaving = LeavingModel { change, workers };
            self.settings.leaving.insert(key.clone(), leaving);
        }
        self.note_left();
    }

    /// Forgets the changed models whose workers from before have left.
    fn note_left(&mut self) {
        let is_left = |key: &ModelKey, leaving: &mut LeavingModel| match leaving.change {
            ModelChange::Removed => !self.pool.is_model_leaving(key),
            ModelChange::Added | ModelChange::Replaced | ModelChange::Adjusted => {
                let mut workers = leaving.workers.iter();
                !workers.any(|worker| self.workers.contains_key(worker))
            }
        };
        for (key, left) in self.settings.leaving.extract_if(.., is_left) {
            if left.change == ModelChange::Removed {
                self.logs.forget(&key);
            }
        }
    }
}

/// The lines about each model that was updated, in supervisorctl's words and order.
pub(super) fn lines(changes: &BTreeMap<ModelKey, ModelChange>) -> Vec<Vec<String>> {
    let mut changes: Vec<_> = changes.iter().collect();
    changes.sort_by_key(|(_, change)| match change {
        ModelChange::Removed => 0,
        ModelChange::Replaced | ModelChange::Adjusted => 1,
        ModelChange::Added => 2,
    });
    let of_model = |(key, change): (&ModelKey, &ModelChange)| {
        let stopped = format!("{key}: stopped");
        match change {
            ModelChange::Removed => vec![stopped, format!("{key}: removed process group")],
            ModelChange::Replaced => vec![stopped, format!("{key}: updated process group")],
            ModelChange::Adjusted => vec![format!("{key}: updated process group")],
            ModelChange::Added => vec![format!("{key}: added process group")],
        }
    };
    changes.into_iter().map(of_model).collect()
}
