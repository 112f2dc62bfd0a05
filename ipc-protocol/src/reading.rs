//! A model's reading of a prompt: whether it was cut, and unknown words.

use bincode::{Decode, Encode};

use crate::untrusted::Untrusted;

/// Most words that are reported as unknown.
pub const WORDS_MAX: usize = 8;

/// Most bytes of a reported word; the rest of a longer one is left out.
pub const WORD_BYTES_MAX: usize = 64;

/// Most examples of what a model knows.
pub const EXAMPLES_MAX: usize = 5;

/// A model's reading of a prompt. A picture is drawn all the same; whoever asked for it is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Reading {
    /// The prompt was longer than the model's tokens, and its end was cut.
    pub was_cut: bool,
    /// Words that the model was never taught: each once, in the prompt's order, the first [`WORDS_MAX`].
    pub unknown: Vec<UnknownWord>,
    /// Some of what it can draw instead, where there is an unknown word and its files say what it knows.
    pub examples: Vec<String>,
}

/// A word that a model was never taught.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct UnknownWord {
    /// As the prompt has it.
    pub word: String,
    /// The closest known word.
    pub nearest: Option<String>,
}

/// A word as it is reported: no longer than [`WORD_BYTES_MAX`].
pub fn short(text: &str) -> String {
    text[..text.floor_char_boundary(WORD_BYTES_MAX)].to_owned()
}

impl UnknownWord {
    /// Both as they are reported.
    pub fn new(word: &str, nearest: Option<&str>) -> Self {
        Self {
            word: short(word),
            nearest: nearest.map(short),
        }
    }
}

impl Reading {
    /// Returns remarks for the client, one sentence each; none if every word was understood.
    pub fn remarks(&self, model: &str) -> Vec<String> {
        let cut = "the prompt was longer than the model reads; its end was cut".to_owned();
        let mut remarks: Vec<String> = self.was_cut.then_some(cut).into_iter().collect();
        for (place, unknown) in self.unknown.iter().enumerate() {
            let UnknownWord { word, nearest } = unknown;
            let mut said = format!("{model} does not know {word:?}");
            if place == 0 && !self.examples.is_empty() {
                let examples = self.examples.join(", ");
                said += &format!("; it knows {} and more", Untrusted::new(examples));
            }
            if let Some(nearest) = nearest {
                said += &format!("; nearest: {}", Untrusted::new(nearest));
            }
            remarks.push(said);
        }
        remarks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_understood_is_not_remarked_on() {
        assert_eq!(Reading::default().remarks("tiny"), Vec::<String>::new());
    }

    #[test]
    fn an_unknown_word_comes_with_what_is_known_and_what_is_nearest() {
        let reading = Reading {
            was_cut: true,
            unknown: vec![
                UnknownWord::new("astronaut", Some("rocket")),
                UnknownWord::new("juggling", None),
            ],
            examples: vec!["fox".into(), "pizza".into()],
        };
        assert_eq!(
            reading.remarks("tiny"),
            [
                "the prompt was longer than the model reads; its end was cut",
                "tiny does not know \"astronaut\"; it knows fox, pizza and more; nearest: rocket",
                "tiny does not know \"juggling\"",
            ]
        );
    }

    #[test]
    fn a_reported_word_is_bounded_at_a_whole_character() {
        let long = "ü".repeat(100);
        assert_eq!(UnknownWord::new(&long, None).word, "ü".repeat(32));
    }
}
