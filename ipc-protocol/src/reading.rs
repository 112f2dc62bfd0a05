//! A model's reading of a prompt: whether it was cut, and unknown words.

use bincode::{Decode, Encode};

use crate::untrusted::Untrusted;

/// The largest number of words that are reported as unknown.
pub const WORDS_MAX: usize = 8;

/// The largest number of bytes of a reported word; the rest of a longer word is cut off.
pub const WORD_BYTES_MAX: usize = 64;

/// The largest number of examples of known words.
pub const EXAMPLES_MAX: usize = 5;

/// A model's reading of a prompt. It never stops the picture; the client gets it as remarks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Reading {
    /// The prompt was longer than the model's tokens, and its end was cut.
    pub was_cut: bool,
    /// Words missing from the model's vocabulary: each once, in the prompt's order, the first [`WORDS_MAX`].
    pub unknown: Vec<UnknownWord>,
    /// Examples of known words, if there is an unknown word and the model's files list the known ones.
    pub examples: Vec<String>,
    /// Number of tokens that the model read: of the prompt, and of the negative prompt if the request has one and the
    /// model used it. The tokens are those of its main text encoder (T5), with the end token, without padding, after
    /// the cut. 0 if the model has no tokenizer.
    pub tokens: u32,
}

/// A word of the prompt that is missing from the model's vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct UnknownWord {
    /// The word as spelled in the prompt.
    pub word: String,
    /// The closest known word.
    pub nearest: Option<String>,
}

/// Cuts a word to at most [`WORD_BYTES_MAX`] bytes, between characters.
pub fn short(text: &str) -> String {
    text[..text.floor_char_boundary(WORD_BYTES_MAX)].to_owned()
}

impl UnknownWord {
    /// Cuts both words to the reported length.
    pub fn new(word: &str, nearest: Option<&str>) -> Self {
        Self {
            word: short(word),
            nearest: nearest.map(short),
        }
    }
}

impl Reading {
    /// Returns the remarks for the client, one sentence each; empty if the whole prompt was understood.
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
    fn a_prompt_that_was_understood_has_no_remarks() {
        assert_eq!(Reading::default().remarks("tiny"), Vec::<String>::new());
    }

    #[test]
    fn a_remark_on_an_unknown_word_names_known_words_and_the_nearest_one() {
        let reading = Reading {
            was_cut: true,
            unknown: vec![
                UnknownWord::new("astronaut", Some("rocket")),
                UnknownWord::new("juggling", None),
            ],
            examples: vec!["fox".into(), "pizza".into()],
            tokens: 9,
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
    fn a_reported_word_is_cut_between_characters() {
        let long = "ü".repeat(100);
        assert_eq!(UnknownWord::new(&long, None).word, "ü".repeat(32));
    }
}
