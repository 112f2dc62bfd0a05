//! The table of model families: the name of each, and its published model.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A model family: models that one pipeline of the worker can draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Family(&'static str);

/// A model with published files, offered by every daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedModel {
    /// Registry key of the model.
    pub key: &'static str,
    /// Names of the model on the hub, accepted as aliases of its key.
    pub aliases: &'static [&'static str],
    /// Family of the model.
    pub family: Family,
}

/// The registry key of a published model and its aliases.
type PublishedNames = (&'static str, &'static [&'static str]);

/// The families in the order of messages, each with its published model. A new family adds one line.
const TABLE: [(&str, Option<PublishedNames>); 3] = [
    (
        "flux",
        Some(("flux-schnell", &["black-forest-labs/FLUX.1-schnell"])),
    ),
    (
        "sd3",
        Some((
            "sd3.5-turbo",
            &["stabilityai/stable-diffusion-3.5-large-turbo"],
        )),
    ),
    ("synthetic", None),
];

/// The small model inside the worker program that every daemon offers, and the default model.
pub const EMBEDDED_MODEL: &str = "pocket-flux";

/// The names of all families in the table, for error messages that list them.
pub const WORDS: [&str; TABLE.len()] = {
    let mut words = [""; TABLE.len()];
    let mut row = 0;
    while row < words.len() {
        words[row] = TABLE[row].0;
        row += 1;
    }
    words
};

impl Family {
    /// The family without weights: draws a pattern from the seed, for tests and measurements.
    pub const SYNTHETIC: Self = Self("synthetic");

    /// A family that is not in the table, such as one of a test.
    pub const fn new(word: &'static str) -> Self {
        Self(word)
    }

    /// Finds a family of the table by its name.
    pub fn named(word: &str) -> Option<Self> {
        Self::all().find(|family| family.0 == word)
    }

    /// The families of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        WORDS.into_iter().map(Self)
    }

    /// The name of the family in settings, manifests and status.
    pub const fn word(self) -> &'static str {
        self.0
    }
}

impl PublishedModel {
    /// The published models of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.into_iter().filter_map(|(word, model)| {
            model.map(|(key, aliases)| Self {
                key,
                aliases,
                family: Family(word),
            })
        })
    }

    /// Finds a published model by its registry key.
    pub fn with_key(key: &str) -> Option<Self> {
        Self::all().find(|model| model.key == key)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

impl Serialize for Family {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for Family {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        let unknown = || {
            let known = WORDS.join(", ");
            serde::de::Error::custom(format!("family {word:?} is not one of {known}"))
        };
        Self::named(&word).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_its_name_and_by_its_published_model() {
        for family in Family::all() {
            assert_eq!(Family::named(family.word()), Some(family));
        }
        for model in PublishedModel::all() {
            assert_eq!(PublishedModel::with_key(model.key), Some(model));
            assert_eq!(Family::named(model.family.word()), Some(model.family));
        }
        assert_eq!(Family::named("fluxx"), None);
        assert_eq!(
            Family::named(Family::SYNTHETIC.word()),
            Some(Family::SYNTHETIC)
        );
        let words: std::collections::BTreeSet<_> = WORDS.into_iter().collect();
        assert_eq!(words.len(), WORDS.len(), "two families have the same name");
    }
}
