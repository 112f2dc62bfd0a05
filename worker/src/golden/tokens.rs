//! Token ids of many prompts, one JSON line each, to hold against a reference's.

use crate::fault::Fault;
use crate::pipelines::Family;
use crate::pipelines::families;
use crate::pipelines::families::flux::encoders::FluxTokens;
use crate::pipelines::families::flux::files::FluxFiles;
use crate::pipelines::families::sd3::encoders::Sd3Tokens;
use crate::pipelines::families::sd3::files::{Sd3Files, Tokenizers};
use crate::pipelines::families::sd3::sizes::Sd3ModelSizes;
use crate::pipelines::folder::vocabulary::Vocabulary;
use serde::Serialize;
use std::path::Path;

/// Ids of one prompt, cut and padded to the length of each encoder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The prompt.
    pub prompt: String,
    /// For T5.
    pub t5: Vec<u32>,
    /// For CLIP-L.
    pub clip_l: Vec<u32>,
    /// For CLIP-G, where the family has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_g: Option<Vec<u32>>,
}

/// The tokenizers of a family.
pub enum Reader {
    /// T5 and CLIP-L.
    Flux(Box<FluxTokens>),
    /// T5, CLIP-L and CLIP-G.
    Sd3(Box<Sd3Tokens>),
}

impl Reader {
    /// The three published tokenizers.
    ///
    /// # Errors
    /// None, unless this program was built from damaged files.
    pub fn published() -> Result<Reader, Fault> {
        let from = Tokenizers {
            t5: Vocabulary::T5.published()?,
            clip_l: Vocabulary::ClipL.published()?,
            clip_g: Vocabulary::ClipG.published()?,
        };
        let tokens = Sd3Tokens::of(&from, &Sd3ModelSizes::large_turbo())?;
        Ok(Reader::Sd3(Box::new(tokens)))
    }

    /// The tokenizers that a worker uses for a model's folder. A folder without a transformer is read for
    /// the tokenizers in it alone, as those of Stable Diffusion 3.5.
    ///
    /// # Errors
    /// Those of opening the model; [`Fault::WeightsMissing`] when there is neither a model nor all
    /// tokenizers.
    pub fn of_folder(path: &Path) -> Result<Reader, Fault> {
        match families::recognised(path, None) {
            Ok(Family::Flux) => {
                let tokens = FluxTokens::load(&FluxFiles::open(path)?)?;
                Ok(Reader::Flux(Box::new(tokens)))
            }
            Ok(Family::Sd35) => {
                let tokens = Sd3Tokens::load(&Sd3Files::open(path)?)?;
                Ok(Reader::Sd3(Box::new(tokens)))
            }
            Ok(Family::Synthetic) => {
                let file = path.display().to_string();
                Err(Fault::configuration(file, "family", "has no tokenizers"))
            }
            Err(Fault::WeightsMissing { .. }) if path.is_dir() => {
                let mut from = Tokenizers::open(path, [0; 3])?;
                // Without weights no configuration tells the padding tokens' ids.
                let end = || Some("<|endoftext|>".to_owned());
                from.clip_l.pad_token = from.clip_l.pad_token.or_else(end);
                let tokens = Sd3Tokens::of(&from, &Sd3ModelSizes::large_turbo())?;
                Ok(Reader::Sd3(Box::new(tokens)))
            }
            Err(fault) => Err(fault),
        }
    }

    /// The ids of a prompt.
    ///
    /// # Errors
    /// [`Fault::BadRequest`] for text that a tokenizer refuses.
    pub fn line(&self, prompt: &str) -> Result<Line, Fault> {
        let prompt = prompt.to_owned();
        Ok(match self {
            Reader::Flux(tokens) => {
                let ids = tokens.ids(&prompt, None)?;
                Line {
                    prompt,
                    t5: ids.t5.ids,
                    clip_l: ids.clip.ids,
                    clip_g: None,
                }
            }
            Reader::Sd3(tokens) => {
                let ids = tokens.ids(&prompt, None)?;
                Line {
                    prompt,
                    t5: ids.t5.ids,
                    clip_l: ids.clip_l.ids,
                    clip_g: Some(ids.clip_g.ids),
                }
            }
        })
    }
}

/// Reads prompts: JSON strings, one a line, or one JSON array of them.
///
/// # Errors
/// [`Fault::WeightsMissing`] when there is no such file; [`Fault::Configuration`] naming the line that is
/// no JSON string.
pub fn prompts(path: &Path) -> Result<Vec<String>, Fault> {
    let text = std::fs::read_to_string(path).map_err(|error| Fault::reading(path, &error))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let refuse = |place: String, error: serde_json::Error| {
        Fault::configuration(path.display().to_string(), place, error.to_string())
    };
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).map_err(|error| refuse("array".to_owned(), error));
    }
    let lines = (1..).zip(text.lines());
    let told = lines.filter(|(_, line)| !line.trim().is_empty());
    told.map(|(number, line)| {
        serde_json::from_str(line).map_err(|error| refuse(format!("line {number}"), error))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, Fault> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("prompts.jsonl");
        std::fs::write(&path, text).expect("a writable temporary folder");
        prompts(&path)
    }

    #[test]
    fn prompts_are_read_as_lines_and_as_an_array() {
        let wanted = ["a", "b\r\n!", ""];
        let lines = read("\"a\"\r\n\"b\\r\\n!\"\n\n\"\"\n").expect("three lines");
        assert_eq!(lines, wanted);
        let array = read(" [\"a\",\n \"b\\r\\n!\", \"\"]\n").expect("an array");
        assert_eq!(array, wanted);
    }

    #[test]
    fn a_line_that_is_not_a_json_string_is_named() {
        let said = read("\"a\"\nplain words\n").expect_err("no string");
        assert!(said.to_string().contains("line 2"), "{said}");
    }
}
