//! The table of model families: the word for each, and the published model that it stands for.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The code that draws a model: one pipeline of the worker, many sets of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Family(&'static str);

/// A model whose files are published, which every daemon offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedModel {
    /// Its registry key.
    pub key: &'static str,
    /// The hub's names for it, which are aliases of its key.
    pub aliases: &'static [&'static str],
    /// The code that draws it.
    pub family: Family,
}

/// The families in the order of messages, each with its published model. A new family adds one line.
const TABLE: [(&str, Option<(&str, &[&str])>); 3] = [
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

/// The words of the table, for checks that list what is allowed.
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
    /// The family without weights: a pattern painted from the seed, for tests and measurements.
    pub const SYNTHETIC: Self = Self("synthetic");

    /// A family that need not be in the table, such as a test's own.
    pub const fn new(word: &'static str) -> Self {
        Self(word)
    }

    /// The family of the table with that word.
    pub fn named(word: &str) -> Option<Self> {
        Self::all().find(|family| family.0 == word)
    }

    /// The families of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        WORDS.into_iter().map(Self)
    }

    /// The word for it in settings, manifests and status.
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

    /// The one with that registry key.
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
    fn every_row_is_found_by_its_word_and_by_its_published_model() {
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
        assert_eq!(words.len(), WORDS.len(), "two families have one word");
    }
}
