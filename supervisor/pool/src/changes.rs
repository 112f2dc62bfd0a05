//! What happens when the registry is read again under running workers.

use ipc_protocol::ids::Generation;

use crate::model::Model;
use crate::pool::Pool;
use crate::registry::{Files, ModelSpec, Registry};
use crate::turn::Turn;

impl Pool {
    /// Workers of a model that changed or went away finish their job and leave.
    pub(crate) fn models_changed(&mut self, turn: &mut Turn, registry: &Registry) {
        for id in self.model_ids() {
            let model = self.model(id);
            let new = registry.iter().find(|spec| spec.key == model.spec.key);
            let outdated = new.is_none_or(|new| needs_new_workers(&model.spec, new));
            let model = self.model_mut(id);
            model.retired = new.is_none();
            if let Some(new) = new {
                let pin_changed = model.spec.pinned != new.pinned;
                model.pinned = if pin_changed {
                    new.pinned
                } else {
                    model.pinned
                };
                model.spec = new.clone();
            }
            if outdated {
                model.record.forgive();
                for worker in model.workers.clone() {
                    self.outdate(turn, worker);
                }
            }
        }
        for spec in registry.iter() {
            if !self.models.iter().any(|model| model.spec.key == spec.key) {
                self.models.push(Model::new(spec.clone()));
            }
        }
    }

    fn outdate(&mut self, turn: &mut Turn, id: Generation) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        worker.outdated = true;
        if worker.attempt().is_none() && worker.job_at_hand().is_none() {
            self.end_worker(turn, id, crate::action::StopReason::Outdated);
        }
    }
}

/// Whether two looks found the same files. A digest may be known later than the files are.
fn same_files(old: &ModelSpec, new: &ModelSpec) -> bool {
    match (&old.files, &new.files) {
        (Files::Here { stamp: old }, Files::Here { stamp: new })
            if !old.is_empty() && !new.is_empty() =>
        {
            old == new
        }
        (one, other) => one == other && old.digest == new.digest,
    }
}

/// A worker made for `old` cannot go on for `new`.
fn needs_new_workers(old: &ModelSpec, new: &ModelSpec) -> bool {
    old.family != new.family
        || old.need != new.need
        || !same_files(old, new)
        || old.params != new.params
        || old.device != new.device
        || old.sizes.max < new.sizes.max
}
