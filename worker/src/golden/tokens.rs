//! Token ids of many prompts, as one JSON line each, to compare with a reference's.

use crate::fault::WorkerFault;
use crate::pipelines::families;
use crate::pipelines::folder::vocabulary::Vocabulary;
use crate::pipelines::parts::sizes::{EncoderSizes, clip_g, clip_l, t5_xxl};
use crate::pipelines::text::{PromptTokenizers, TokenizerFiles};
use serde::Serialize;
use std::path::Path;

/// The token ids of one prompt, cut and padded to the length of each encoder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenLine {
    /// The prompt.
    pub prompt: String,
    /// Ids for T5.
    pub t5: Vec<u32>,
    /// Ids for CLIP-L.
    pub clip_l: Vec<u32>,
    /// Ids for CLIP-G, if the family has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_g: Option<Vec<u32>>,
}

/// The tokenizers of a family.
pub struct TokenReader(PromptTokenizers);

impl TokenReader {
    /// The three published tokenizers.
    ///
    /// # Errors
    /// Only if this program was built from damaged files.
    pub fn published() -> Result<TokenReader, WorkerFault> {
        let from = TokenizerFiles {
            t5: Vocabulary::T5.published()?,
            clip_l: Vocabulary::ClipL.published()?,
            clip_g: Some(Vocabulary::ClipG.published()?),
        };
        Ok(TokenReader(PromptTokenizers::load(
            &from,
            &published_sizes(),
        )?))
    }

    /// The tokenizers that a worker uses for a model's folder. In a folder without a transformer, only the
    /// tokenizers are read, for all three encoders.
    ///
    /// # Errors
    /// Faults of opening the model; [`WorkerFault::WeightsMissing`] if the folder has neither a model nor all
    /// tokenizers.
    pub fn of_folder(path: &Path) -> Result<TokenReader, WorkerFault> {
        let tokenizers = match families::open(families::TABLE, path, None) {
            Ok(files) => files.tokenizers()?.ok_or_else(|| {
                let file = path.display().to_string();
                WorkerFault::configuration(file, "family", "has no tokenizers")
            })?,
            Err(WorkerFault::WeightsMissing { .. }) if path.is_dir() && !has_transformer(path) => {
                let mut from = TokenizerFiles::open(path, [0; 2], Some(0))?;
                // Without weights, no configuration gives the ids of the padding tokens.
                let end = || Some("<|endoftext|>".to_owned());
                from.clip_l.pad_token = from.clip_l.pad_token.or_else(end);
                PromptTokenizers::load(&from, &published_sizes())?
            }
            Err(fault) => return Err(fault),
        };
        Ok(TokenReader(tokenizers))
    }

    /// The ids of a prompt.
    ///
    /// # Errors
    /// [`WorkerFault::BadRequest`] for text that a tokenizer refuses.
    pub fn line(&self, prompt: &str) -> Result<TokenLine, WorkerFault> {
        let ids = self.0.ids(prompt, None)?;
        Ok(TokenLine {
            prompt: prompt.to_owned(),
            t5: ids.t5.ids,
            clip_l: ids.clip_l.ids,
            clip_g: ids.clip_g.map(|ids| ids.ids),
        })
    }
}

/// Tells whether a folder contains a transformer, so that another part is the missing one.
fn has_transformer(path: &Path) -> bool {
    families::recognised(families::TABLE, path, None).is_ok()
}

/// The sizes of the three published encoders.
fn published_sizes() -> EncoderSizes {
    EncoderSizes {
        t5: t5_xxl(),
        clip_l: clip_l(),
        clip_g: Some(clip_g()),
    }
}

/// Reads prompts: JSON strings, one per line, or a JSON array of them.
///
/// # Errors
/// [`WorkerFault::WeightsMissing`]; [`WorkerFault::Configuration`] with the line that is not a JSON string.
pub fn prompts(path: &Path) -> Result<Vec<String>, WorkerFault> {
    let text = std::fs::read_to_string(path).map_err(|error| WorkerFault::reading(path, &error))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let refuse = |place: String, error: serde_json::Error| {
        WorkerFault::configuration(path.display().to_string(), place, error.to_string())
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

    fn read(text: &str) -> Result<Vec<String>, WorkerFault> {
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
