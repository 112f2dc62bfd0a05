//! Names of workers and models on the command line: `all`, `MODEL`, `MODEL:*`, `MODEL:SLOT`.

use std::fmt;

use ipc_protocol::ids::{ModelKey, WorkerName};
use ipc_protocol::messages::client::Target;

/// A name on the command line. Displays as typed, except that `MODEL:` becomes `MODEL:*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetName {
    /// All workers of all models.
    All,
    Model(String),
    /// All workers of a model, written as supervisorctl writes a group: `MODEL:*`.
    Group(String),
    /// One worker, `MODEL:SLOT`.
    Worker(String),
}

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.pad("all"),
            Self::Model(name) | Self::Worker(name) => f.pad(name),
            Self::Group(model) => write!(f, "{model}:*"),
        }
    }
}

impl TargetName {
    /// Parses any text; the caller checks later whether such a worker or model exists.
    pub fn read(text: &str) -> Self {
        match text.rsplit_once(':') {
            None if text == "all" => Self::All,
            None => Self::Model(text.to_owned()),
            Some((model, "*" | "")) => Self::Group(model.to_owned()),
            Some(_) => Self::Worker(text.to_owned()),
        }
    }

    /// Whether this name covers the worker `worker` of the model `of_model`.
    pub fn means(&self, worker: &str, of_model: &str) -> bool {
        match self {
            Self::All => true,
            Self::Model(model) | Self::Group(model) => model == of_model,
            Self::Worker(name) => name == worker,
        }
    }

    /// Whether this name is exactly the worker `worker`.
    pub fn is_worker(&self, worker: &str) -> bool {
        matches!(self, Self::Worker(name) if name == worker)
    }

    /// The target to send to the daemon; `None` if no worker or model can have this name.
    pub fn target(&self) -> Option<Target> {
        Some(match self {
            Self::All => Target::All,
            Self::Model(model) | Self::Group(model) => {
                Target::Model(ModelKey::new(model.as_str()).ok()?)
            }
            Self::Worker(name) => {
                let (model, slot) = name.rsplit_once(':')?;
                Target::Worker(WorkerName {
                    model: ModelKey::new(model).ok()?,
                    slot: slot.parse().ok()?,
                })
            }
        })
    }

    /// The line printed for an unknown name, in supervisorctl's words.
    pub fn unknown(&self) -> String {
        match self {
            Self::All | Self::Model(_) | Self::Worker(_) => {
                format!("{self}: ERROR (no such process)")
            }
            Self::Group(model) => format!("{model}: ERROR (no such group)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_the_target_of_its_model() {
        let group = TargetName::read("syn:*");
        assert_eq!(group, TargetName::Group("syn".into()));
        assert_eq!(group.target(), TargetName::read("syn").target());
        assert!(group.means("syn:1", "syn") && !group.means("other:1", "other"));
        assert!(!group.is_worker("syn:1"));
        assert_eq!(group.unknown(), "syn: ERROR (no such group)");
        assert_eq!(TargetName::read("syn:"), group);
    }

    #[test]
    fn an_impossible_name_has_no_target() {
        for text in ["no such", "syn:x", ":0", "", "a:-1"] {
            assert_eq!(TargetName::read(text).target(), None, "{text:?}");
        }
        assert!(TargetName::read("syn:1").target().is_some());
        assert_eq!(TargetName::read("all").target(), Some(Target::All));
    }
}
