//! The words that a small model was trained on, from its `config.json`.
//!
//! The words are in groups. Other words are listed with the nearest known word.

use crate::fault::WorkerFault;
use crate::pipelines::folder::rights::refuse_control;
use crate::pipelines::parts::tokens::Ids;
use ipc_protocol::about::Group;
use ipc_protocol::reading::{self, EXAMPLES_MAX, Reading, UnknownWord, WORDS_MAX};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Smallest similarity of two spellings that counts as a typing error: about one letter in four differs.
const ALIKE: f64 = 0.74;

/// The words that a model knows. Empty for the published models, which do not list theirs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Lexicon {
    /// Groups of things that the model can draw, the most important first.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// Unknown words, each with the thing that is nearest in meaning.
    #[serde(default)]
    near: BTreeMap<String, String>,
}

impl Lexicon {
    /// Refuses words that contain control characters.
    ///
    /// # Errors
    /// [`WorkerFault::Configuration`].
    pub fn check(&self, file: &str) -> Result<(), WorkerFault> {
        let things = self.groups.iter().flat_map(|group| &group.things);
        let names = self.groups.iter().map(|group| &group.name);
        let said = things.chain(names).chain(self.near.values());
        refuse_control(file, "vocabulary", said)
    }

    /// Returns the reading of a prompt, with its unknown words.
    pub fn reading(&self, ids: &Ids) -> Reading {
        let unknown: Vec<UnknownWord> = ids
            .unknown
            .iter()
            .take(WORDS_MAX)
            .map(|word| UnknownWord::new(word, self.nearest(word)))
            .collect();
        let examples = match (unknown.is_empty(), self.groups.first()) {
            (false, Some(group)) => {
                let first = group.things.iter().take(EXAMPLES_MAX);
                first.map(|thing| reading::short(thing)).collect()
            }
            _ => Vec::new(),
        };
        Reading {
            was_cut: ids.cut,
            unknown,
            examples,
            tokens: ids.count as u32,
        }
    }

    /// The thing nearest to a word: in meaning if listed, else in spelling.
    fn nearest(&self, word: &str) -> Option<&str> {
        let word = word.to_lowercase();
        let listed = self.near.get_key_value(&word).into_iter();
        let things = self.groups.iter().flat_map(|group| &group.things);
        let known = self.near.iter().chain(things.map(|thing| (thing, thing)));
        let likeness = |(spelled, _): &(&String, &String)| {
            strsim::normalized_damerau_levenshtein(&word, spelled)
        };
        let alike = known
            .filter(|pair| likeness(pair) >= ALIKE)
            .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        listed.chain(alike).next().map(|(_, thing)| thing.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_protocol::exit_code::ExitCode;

    fn lexicon() -> Lexicon {
        serde_json::from_str(
            r#"{"groups": [{"name": "things", "things": ["fox", "rocket", "strawberry"]}],
                "near": {"astronaut": "rocket"}}"#,
        )
        .expect("a lexicon")
    }

    fn read(unknown: &[&str]) -> Reading {
        let unknown = unknown.iter().map(|word| (*word).to_owned()).collect();
        let ids = Vec::new();
        lexicon().reading(&Ids {
            ids,
            count: 0,
            cut: false,
            unknown,
        })
    }

    #[test]
    fn the_nearest_word_is_by_meaning_else_by_spelling_else_missing() {
        let reading = read(&["Astronaut", "strawbery", "juggling"]);
        let nearest: Vec<_> = reading
            .unknown
            .iter()
            .map(|u| u.nearest.as_deref())
            .collect();
        assert_eq!(nearest, [Some("rocket"), Some("strawberry"), None]);
        assert_eq!(reading.examples, ["fox", "rocket", "strawberry"]);
    }

    #[test]
    fn a_prompt_of_known_words_gets_no_examples() {
        assert_eq!(read(&[]), Reading::default());
    }

    #[test]
    fn the_number_of_reported_unknown_words_is_bounded() {
        assert_eq!(read(&["x"; 20]).unknown.len(), WORDS_MAX);
    }

    #[test]
    fn words_with_control_characters_are_refused() {
        let text = r#"{"near": {"a": "\u001b[31mred"}}"#;
        let found: Lexicon = serde_json::from_str(text).expect("a lexicon");
        assert_eq!(
            found.check("config.json").err().and_then(|f| f.exit_code()),
            Some(ExitCode::BadConfiguration)
        );
    }
}
