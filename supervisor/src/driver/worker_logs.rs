//! The logs of workers by name, and the signals that operators send them.

use std::collections::BTreeMap;

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::{ModelKey, WorkerName};
use ipc_protocol::messages::client::{Target, Told};
use nix::sys::signal::Signal;

use super::Driver;
use crate::line_ring::LineRing;

/// Most bytes of lines that are kept for one name.
const LOG_BYTES_MAX: usize = 256 << 10;

/// The newest lines of every name that a worker has had: they outlive the worker.
#[derive(Debug, Default)]
pub(super) struct WorkerLogs(BTreeMap<WorkerName, LineRing>);

impl WorkerLogs {
    /// The log of a name, for its next worker.
    pub fn open(&mut self, name: &WorkerName) -> LineRing {
        let log = self.0.entry(name.clone());
        log.or_insert_with(|| LineRing::new(LOG_BYTES_MAX)).clone()
    }

    /// Forgets the logs of a model that is not offered any longer.
    pub fn forget(&mut self, model: &ModelKey) {
        self.0.retain(|name, _| name.model != *model);
    }
}

impl Driver {
    /// The log of a worker; empty if none of this name has written anything.
    ///
    /// # Errors
    /// There is no worker of this name.
    pub(super) fn log_of(&self, name: &WorkerName) -> Result<LineRing, Failure> {
        let Some(name) = self.own_name(name) else {
            let message = format!("{name}: no such process name");
            return Err(Failure::new(FailureKind::NoSuchName, message));
        };
        Ok(match self.logs.0.get(&name) {
            Some(log) => log.clone(),
            // A worker of an earlier daemon; a name that no worker has had needs no place.
            None => {
                let log = LineRing::new(LOG_BYTES_MAX);
                let ends = self.obituaries.newest(&Target::Worker(name), 1);
                let lines = ends.iter().flat_map(|end| &end.lines);
                lines.for_each(|line| log.push(line.clone()));
                log
            }
        })
    }

    /// Forgets what workers have written.
    pub(super) fn clear_logs(&mut self, target: &Target) -> Told {
        let logs: Vec<&WorkerName> = self.logs.0.keys().collect();
        let mut told = Lines::default();
        for name in self.named(target, &logs, &mut told) {
            // An empty log hides what workers of an earlier daemon wrote.
            let is_known = self.logs.0.contains_key(&name);
            let of_earlier = || self.obituaries.newest(&Target::Worker(name.clone()), 1);
            if is_known || !of_earlier().is_empty() {
                self.logs.open(&name).clear();
            }
            told.well(&name, "cleared");
        }
        told.0
    }

    /// Sends a signal to live workers. A death by it counts as one from outside.
    pub(super) fn signal_workers(&self, signal: &str, target: &Target) -> Told {
        let mut told = Lines::default();
        let Some(signal) = parse(signal) else {
            match target {
                Target::All => told.badly("all", "bad signal name"),
                Target::Model(name) => told.badly(name, "bad signal name"),
                Target::Worker(name) => told.badly(name, "bad signal name"),
            }
            return told.0;
        };
        let live = self.workers.values().map(|worker| &worker.name);
        for name in self.named(target, &live.collect::<Vec<_>>(), &mut told) {
            let worker = self.workers.values().find(|worker| worker.name == name);
            match worker.is_some_and(|worker| worker.signal_for_operator(signal)) {
                true => told.well(&name, "signalled"),
                false => told.badly(&name, "not running"),
            }
        }
        told.0
    }

    /// Those of `names` that a command means; the first slot of a model that has none of them. Notes an error if there
    /// is no such model.
    fn named(&self, target: &Target, names: &[&WorkerName], told: &mut Lines) -> Vec<WorkerName> {
        let of_model = |model: &ModelKey| {
            let mut own: Vec<WorkerName> = names
                .iter()
                .filter(|name| name.model == *model)
                .map(|name| (*name).clone())
                .collect();
            own.sort();
            own
        };
        let first = |model: ModelKey| WorkerName { model, slot: 0 };
        match target {
            Target::All => {
                let offered = self.registry.iter().map(|spec| &spec.key);
                let mut models: Vec<&ModelKey> = offered.collect();
                models.extend(self.leaving_models());
                models.into_iter().flat_map(of_model).collect()
            }
            Target::Model(name) => match self.own_key(name) {
                Some(model) => match of_model(&model) {
                    own if own.is_empty() => vec![first(model)],
                    own => own,
                },
                None => {
                    told.badly(name, "no such process");
                    Vec::new()
                }
            },
            Target::Worker(name) => match self.own_name(name) {
                Some(name) => vec![name],
                None => {
                    told.badly(name, "no such process");
                    Vec::new()
                }
            },
        }
    }

    /// The worker called `name`, by the key or an alias of its model. It exists if the model may have a worker in this
    /// slot, or had one: the settings may have allowed more.
    fn own_name(&self, name: &WorkerName) -> Option<WorkerName> {
        let name = WorkerName {
            model: self.own_key(&name.model)?,
            slot: name.slot,
        };
        let target = Target::Worker(name.clone());
        let has_been =
            || self.logs.0.contains_key(&name) || !self.obituaries.newest(&target, 1).is_empty();
        (self.pool.has_slot(&name) || has_been()).then_some(name)
    }

    /// The key of the model that is called `name`, by key or alias. One that is no longer offered has workers as long as
    /// it has jobs.
    fn own_key(&self, name: &ModelKey) -> Option<ModelKey> {
        let offered = self.registry.find(name.as_str()).map(|spec| &spec.key);
        let found = offered.or_else(|| self.leaving_models().find(|key| *key == name));
        found.cloned()
    }

    /// The models that are no longer offered and still have jobs or workers.
    fn leaving_models(&self) -> impl Iterator<Item = &ModelKey> {
        let leaving = self.settings.leaving.keys();
        leaving.filter(|key| self.registry.find(key.as_str()).is_none())
    }
}

/// Parses the name of a signal with or without `SIG`, in any case, or its number.
fn parse(text: &str) -> Option<Signal> {
    if let Ok(number) = text.parse::<i32>() {
        return Signal::try_from(number).ok();
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    format!("SIG{name}").parse().ok()
}

/// The lines of an answer, in supervisorctl's words.
struct Lines(Told);

impl Default for Lines {
    fn default() -> Self {
        Self(Told {
            lines: Vec::new(),
            success: true,
            more: false,
        })
    }
}

impl Lines {
    fn well(&mut self, name: impl std::fmt::Display, word: &str) {
        self.0.lines.push(format!("{name}: {word}"));
    }

    fn badly(&mut self, name: impl std::fmt::Display, why: &str) {
        self.0.lines.push(format!("{name}: ERROR ({why})"));
        self.0.success = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_named_as_in_supervisorctl_or_numbered() {
        for text in ["HUP", "SIGHUP", "hup", "sighup", "1"] {
            assert_eq!(parse(text), Some(Signal::SIGHUP), "{text}");
        }
        for text in ["", "SIG", "FOO", "0", "-1", "99", "SIGSIGHUP"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
