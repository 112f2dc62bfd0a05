//! New settings: compared with those in use, and taken over.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipc_protocol::failure::Failure;
use ipc_protocol::ids::ModelKey;
use ipc_protocol::messages::client::Told;
use pool::Event;

use super::Driver;
use super::settings::{ReadSettings, ToldSender, UnfinishedUpdate, cannot_reread, told};
use crate::catalogue::difference::{self, ModelChange, OfferedModels};
use crate::config::{Config, names, restart};
use crate::telemetry;

impl Driver {
    /// Takes over the models that differ, and answers once the workers that they outdate have left.
    pub(super) fn update(
        &mut self,
        config: Config,
        offered: &OfferedModels,
        wanted: &[String],
        answer: ToldSender,
    ) {
        let mut changes = difference::changes(&self.settings.offered, offered);
        let mut result = told(Vec::new());
        let is_all = wanted.is_empty() || wanted.iter().any(|name| name == "all");
        if !is_all {
            let known = |name: &&String| {
                let mut keys = self.settings.offered.keys().chain(offered.keys());
                keys.any(|key| key.as_str() == **name)
            };
            for name in wanted.iter().filter(|name| !known(name)) {
                result.lines.push(format!("ERROR: no such group: {name}"));
                result.success = false;
            }
            changes.retain(|key, _| wanted.iter().any(|name| key.as_str() == name));
        }
        let mut settings = Config::clone(&self.library.config);
        for key in changes.keys() {
            match config.models.get(key.as_str()) {
                Some(section) => settings.models.insert(key.to_string(), section.clone()),
                None => settings.models.remove(key.as_str()),
            };
        }
        if !names::is_name(&settings.models, &settings.pool.default_model) {
            let message = format!(
                "ERROR: default_model = {:?} would not be the name of a model any longer: use reload",
                settings.pool.default_model
            );
            result.lines.push(message);
            result.success = false;
            let _ = answer.send(Ok(result));
            return;
        }
        if let Err(why) = self.take_over(settings, offered, &changes) {
            let _ = answer.send(Ok(cannot_reread(&why)));
            return;
        }
        self.decide();
        result.lines.extend(lines(&changes).into_iter().flatten());
        let is_replaced = |model: &ModelKey| {
            let change = changes.get(model);
            matches!(change, Some(ModelChange::Replaced | ModelChange::Removed))
        };
        let outdated = self.workers.iter().filter(|(worker, handle)| {
            is_replaced(&handle.model) && self.pool.is_leaving(**worker)
        });
        self.settings.unfinished.push(UnfinishedUpdate {
            leaving: outdated.map(|(worker, _)| *worker).collect(),
            told: result,
            answer,
        });
        self.finish_updates();
    }

    /// Answers the updates whose outdated workers have left.
    pub(super) fn finish_updates(&mut self) {
        for update in std::mem::take(&mut self.settings.unfinished) {
            let mut leaving = update.leaving.iter();
            if update.answer.is_closed() {
                continue;
            }
            match leaving.any(|worker| self.workers.contains_key(worker)) {
                true => self.settings.unfinished.push(update),
                false => drop(update.answer.send(Ok(update.told))),
            }
        }
    }

    /// Takes over all settings that can change, and lifts the stops of operators. Looks at the files of all models
    /// again.
    pub(super) fn reload(
        &mut self,
        read: ReadSettings,
        offered: &OfferedModels,
    ) -> Result<Told, Failure> {
        let current = Arc::clone(&self.library.config);
        let pending = restart::pending(&current, &read.config);
        let settings = restart::without_pending(&current, read.config);
        let changes = difference::changes(&self.settings.offered, offered);
        let (pool, metadata) = (settings.pool.clone(), settings.metadata);
        if let Err(why) = self.take_over(settings, offered, &changes) {
            telemetry::daemon::not_reloaded(&why);
            return Ok(cannot_reread(&why));
        }
        self.metadata = metadata;
        (read.apply)();
        self.happen(Event::SettingsChanged {
            settings: Box::new(pool),
        });
        self.look_again();
        telemetry::daemon::reloaded(&read.place, changes.len(), &pending);
        let models = lines(&changes)
            .into_iter()
            .filter_map(|mut lines| lines.pop());
        let restart = pending
            .iter()
            .map(|name| format!("{name}: needs a restart"));
        let done = format!("Reloaded {}", read.place);
        Ok(told(models.chain(restart).chain([done]).collect()))
    }

    /// Replaces the settings, and the models that `changes` names.
    ///
    /// # Errors
    /// Two models have the same name; nothing has changed.
    fn take_over(
        &mut self,
        settings: Config,
        offered: &OfferedModels,
        changes: &BTreeMap<ModelKey, ModelChange>,
    ) -> Result<(), String> {
        let mut specs: BTreeMap<&ModelKey, _> = self
            .registry
            .iter()
            .map(|spec| (&spec.key, spec.clone()))
            .collect();
        for (key, change) in changes {
            match (change, offered.get(key)) {
                (ModelChange::Added | ModelChange::Replaced, Some(new)) => {
                    specs.insert(key, new.spec.clone());
                }
                (ModelChange::Adjusted, Some(new)) => {
                    if let Some(spec) = specs.get_mut(key) {
                        *spec = difference::adjusted(spec, &new.spec);
                    }
                }
                (ModelChange::Removed, _) | (_, None) => {
                    specs.remove(key);
                }
            }
        }
        let registry = difference::registry(specs.values())?;
        self.library.config = Arc::new(settings);
        let mut awaited = Vec::new();
        for (key, change) in changes {
            match offered.get(key) {
                Some(new) => {
                    self.settings.offered.insert(key.clone(), new.clone());
                    if *change != ModelChange::Adjusted {
                        self.catalogue.insert(key.clone(), new.served.clone());
                        awaited.extend(self.forget_looks(key).then(|| key.clone()));
                    }
                }
                // The catalogue keeps it, because its workers may be on their way.
                None => {
                    self.settings.offered.remove(key);
                    self.logs.forget(key);
                    self.forget_looks(key);
                }
            }
        }
        if registry != self.registry {
            self.registry = registry.clone();
            let registry = Box::new(registry);
            self.happen(Event::ModelsChanged { registry });
        }
        self.look_at_unread();
        awaited.into_iter().for_each(|key| self.await_again(key));
        Ok(())
    }
}

/// The lines about each model that was updated, in supervisorctl's words and order.
fn lines(changes: &BTreeMap<ModelKey, ModelChange>) -> Vec<Vec<String>> {
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
