//! The targets of the attempts, from the prompt of the job: `NAME=VALUE` words.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The targets, all of them harmless to a test.
#[derive(Debug)]
pub struct EscapeTargets(BTreeMap<String, String>);

impl EscapeTargets {
    pub fn read(prompt: &str) -> Self {
        let words = prompt.split_whitespace();
        let pairs = words.filter_map(|word| word.split_once('='));
        Self(
            pairs
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }

    fn text(&self, name: &str) -> &str {
        let found = self.0.get(name);
        found.unwrap_or_else(|| panic!("the prompt names no {name}"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.text(name).into()
    }

    /// A file in the folder for changes.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.path("scratch").join(name)
    }

    /// A worker of another model.
    pub fn sibling(&self) -> i32 {
        self.text("sibling").parse().expect("a pid")
    }

    pub fn port(&self) -> u16 {
        self.text("port").parse().expect("a port")
    }

    /// The name of an abstract socket that listens.
    pub fn abstract_name(&self) -> &str {
        self.text("abstract")
    }
}

/// The supervisor.
pub fn parent() -> i32 {
    nix::unistd::getppid().as_raw()
}
