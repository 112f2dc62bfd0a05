//! Applies operators' commands and registry changes to the records.

use std::collections::BTreeSet;

use ipc_protocol::ids::{Generation, ModelKey};
use pool::{Files, ModelSpec, Registry, Target};

use super::{ModelRecord, ObservedPool, ProcessRecord, Restart};

impl ObservedPool {
    pub(super) fn learn(&mut self, registry: &Registry) {
        for model in self.models.values_mut() {
            let new = registry.iter().find(|spec| spec.key == model.spec.key);
            model.offered = new.is_some();
            if new.is_none_or(|new| serves_on(&model.spec, new)) {
                continue;
            }
            let own = |process: &&mut ProcessRecord| process.name.model == model.spec.key;
            for process in self.workers.values_mut().filter(own) {
                process.outdated = true;
            }
        }
        for spec in registry.iter() {
            let model = self
                .models
                .entry(spec.key.clone())
                .or_insert_with(|| ModelRecord::new(spec));
            if model.spec.pinned != spec.pinned {
                model.pinned = spec.pinned;
            }
            model.spec = spec.clone();
        }
    }

    pub(super) fn ordered_start(&mut self, target: &Target) {
        for key in self.meant(target) {
            let slot = match target {
                Target::Worker(name) => Some(name.slot),
                Target::All | Target::Model(_) => None,
            };
            let runs = self.live(&key).any(|(_, process)| {
                process.is_resident() && slot.is_none_or(|slot| process.name.slot == slot)
            });
            if !runs {
                self.let_start(&key, slot);
                match slot {
                    Some(slot) => self.keep(&key, slot + 1),
                    None => self.keep_workers(&key, 1),
                }
            }
        }
    }

    pub(super) fn ordered_restart(&mut self, target: &Target) {
        let models = self.meant(target);
        let slot = match target {
            Target::Worker(name) => Some(name.slot),
            Target::All | Target::Model(_) => None,
        };
        let mut leaving = BTreeSet::new();
        let mut back = Vec::new();
        let mut least = 1;
        for key in models {
            let own = self.workers_of(&key);
            let own = own.filter(|(_, process)| slot.is_none_or(|slot| slot == process.name.slot));
            let told: Vec<Generation> = own.map(|(id, _)| id).collect();
            if !told.is_empty() || *target != Target::All {
                back.push(key.clone());
            }
            if slot.is_some() {
                // It is started again beside the live ones.
                let beside = self.live(&key).filter(|(id, _)| !told.contains(id)).count();
                least = beside + 1;
            }
            leaving.extend(told);
            self.let_start(&key, slot);
        }
        if leaving.is_empty() {
            for key in &back {
                self.keep_workers(key, least);
            }
            return;
        }
        self.restarts.push(Restart {
            models: back,
            slot,
            least,
            leaving,
        });
    }

    /// The number of workers of a model that are being restarted in their own slots.
    pub(crate) fn coming_back(&self, key: &ModelKey) -> usize {
        let own = |id: &Generation| {
            self.workers
                .get(id)
                .is_some_and(|process| process.name.model == *key)
        };
        let leaving: BTreeSet<&Generation> = self
            .restarts
            .iter()
            .flat_map(|restart| &restart.leaving)
            .collect();
        leaving.into_iter().filter(|id| own(id)).count()
    }

    /// Whether the workers of a restart are all reaped, so that their models keep workers again with this event.
    pub(crate) fn comes_back(&self) -> bool {
        let gone = |worker: &Generation| !self.workers.contains_key(worker);
        !self.back.is_empty()
            || self
                .restarts
                .iter()
                .any(|restart| restart.leaving.iter().all(gone))
    }

    /// Ends restarts whose workers are all reaped: their models keep workers again.
    pub(crate) fn bring_back(&mut self) {
        for restart in std::mem::take(&mut self.restarts) {
            if restart
                .leaving
                .iter()
                .any(|worker| self.workers.contains_key(worker))
            {
                self.restarts.push(restart);
                continue;
            }
            for key in &restart.models {
                // A later stop holds.
                let model = &self.models[key];
                let held = restart.slot.is_some_and(|slot| model.held.contains(&slot));
                if !model.stopped && !held {
                    self.keep_workers(key, restart.least);
                    self.back.insert(key.clone());
                }
            }
        }
    }

    fn let_start(&mut self, key: &ModelKey, slot: Option<u32>) {
        let model = self.model_mut(key);
        model.stopped = false;
        model
            .held
            .retain(|held| slot.is_some_and(|slot| slot != *held));
    }

    fn keep(&mut self, key: &ModelKey, slots: u32) {
        let model = self.model_mut(key);
        model.kept = model.kept.max(slots);
    }

    /// Keeps as many of the first slots as `least` workers need, without the held ones.
    fn keep_workers(&mut self, key: &ModelKey, least: usize) {
        let held = &self.models[key].held;
        let slots =
            (0..).find(|&slots| (0..slots).filter(|slot| !held.contains(slot)).count() >= least);
        self.keep(key, slots.unwrap_or(0));
    }

    pub(super) fn ordered_stop(&mut self, target: &Target) {
        for key in self.meant(target) {
            let lives = self.live(&key).any(|(_, process)| match target {
                Target::Worker(name) => process.name.slot != name.slot,
                Target::All | Target::Model(_) => false,
            });
            let model = self.model_mut(&key);
            if let Target::Worker(name) = target {
                model.held.insert(name.slot);
            }
            model.stopped |= !lives;
            if model.stopped {
                (model.kept, model.owed) = (0, 0);
            }
        }
    }

    /// A reload takes back every stop.
    pub(super) fn lift_stops(&mut self) {
        for model in self.models.values_mut() {
            model.stopped = false;
            model.held.clear();
        }
    }

    pub(super) fn ordered_scale(&mut self, name: &str, workers: u32) {
        let Some(model) = self.called(name) else {
            return;
        };
        if workers as usize <= self.most(model) {
            let key = model.spec.key.clone();
            let model = self.model_mut(&key);
            model.held.clear();
            model.kept = workers;
            model.stopped &= workers == 0;
        }
    }

    /// The models that a target names; none if there is no such process.
    pub(crate) fn meant(&self, target: &Target) -> Vec<ModelKey> {
        let (name, slot) = match target {
            Target::All => {
                let offered = self.models.values().filter(|model| model.offered);
                return offered.map(|model| model.spec.key.clone()).collect();
            }
            Target::Model(key) => (key, 0),
            Target::Worker(name) => (&name.model, name.slot),
        };
        let found = self.called(name.as_str());
        let found = found.filter(|model| (slot as usize) < self.most(model));
        found
            .map(|model| model.spec.key.clone())
            .into_iter()
            .collect()
    }
}

/// Whether a worker that was started for `old` can go on for `new`.
pub(crate) fn serves_on(old: &ModelSpec, new: &ModelSpec) -> bool {
    let what = |spec: &ModelSpec| (spec.family, spec.need, spec.device);
    same_files(old, new)
        && old.params == new.params
        && what(old) == what(new)
        && new.sizes.max <= old.sizes.max
}

/// The stamp of files tells them apart; a digest may become known later. Without a stamp, the digest does.
fn same_files(old: &ModelSpec, new: &ModelSpec) -> bool {
    match (&old.files, &new.files) {
        (Files::Here { stamp: one }, Files::Here { stamp: other })
            if !one.is_empty() && !other.is_empty() =>
        {
            one == other
        }
        _ => old.files == new.files && old.digest == new.digest,
    }
}
