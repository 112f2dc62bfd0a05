//! New settings: compared with those in use, and taken over.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipc_protocol::failure::Failure;
use ipc_protocol::ids::ModelKey;
use ipc_protocol::messages::client::Told;
use pool::Event;

use super::Driver;
use super::leaving::lines;
use super::settings::{ReadSettings, ToldSender, UnfinishedUpdate, cannot_reread, told};
use crate::catalogue::difference::{self, ModelChange, OfferedModels};
use crate::config::{Config, names, restart};
use crate::telemetry;

impl Driver {
    /// Takes over the models that differ, and answers once the workers that they outdate have left.
    pub(super) fn update(
        &mut self,
        config: &Config,
        offered: &OfferedModels,
        wanted: &[String],
        answer: ToldSender,
    ) {
        let is_all = wanted.is_empty() || wanted.iter().any(|name| name == "all");
        let is_meant = |key: &ModelKey| is_all || wanted.iter().any(|name| key.as_str() == name);
        let mut changes = difference::changes(&self.settings.offered, offered);
        changes.retain(|key, _| is_meant(key));
        let mut result = told(Vec::new());
        if !is_all {
            let unknown = wanted.iter().filter(|name| !self.is_known(offered, name));
            let unknown = unknown.map(|name| format!("ERROR: no such group: {name}"));
            result.lines.extend(unknown);
            result.success = result.lines.is_empty();
        }
        let settings = self.with_models(config, changes.keys());
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
        // What an earlier update began is not done yet: this one waits for it too, and says so.
        for (key, earlier) in &self.settings.leaving {
            if is_meant(key) {
                changes.entry(key.clone()).or_insert(earlier.change);
            }
        }
        self.settings.unfinished.push(UnfinishedUpdate {
            changes,
            told: result,
            answer,
        });
        self.finish_updates();
    }

    /// Whether a model is called so in the settings in use, in the file, or among those that are leaving.
    fn is_known(&self, offered: &OfferedModels, name: &str) -> bool {
        let settings = &self.settings;
        let mut keys = settings
            .offered
            .keys()
            .chain(offered.keys())
            .chain(settings.leaving.keys());
        keys.any(|key| key.as_str() == name)
    }

    /// The settings in use, with the sections of these models from `config`.
    fn with_models<'a>(&self, config: &Config, keys: impl Iterator<Item = &'a ModelKey>) -> Config {
        let mut settings = Config::clone(&self.library.config);
        for key in keys {
            match config.models.get(key.as_str()) {
                Some(section) => settings.models.insert(key.to_string(), section.clone()),
                None => settings.models.remove(key.as_str()),
            };
        }
        settings
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
        let leaving = changes.keys();
        let leaving = leaving.filter(|key| self.pool.is_model_leaving(key));
        let leaving = leaving.map(|key| format!("{key}: finishes its jobs first"));
        let restart = pending
            .iter()
            .map(|name| format!("{name}: needs a restart"));
        let done = format!("Reloaded {}", read.place);
        Ok(told(
            models.chain(leaving).chain(restart).chain([done]).collect(),
        ))
    }

    /// Replaces the settings, and the models that `changes` names; the pool has decided about them afterwards.
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
                // The catalogue keeps it, for the jobs that it has.
                None => {
                    self.settings.offered.remove(key);
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
        self.decide();
        self.note_leaving(changes);
        Ok(())
    }
}
