//! Reads the special tokens from the files beside a tokenizer, like transformers.
//!
//! `special_tokens_map.json` has priority over `tokenizer_config.json`. Each may name the padding token, as a
//! text or as an object with its `content`.

use crate::fault::WorkerFault;
use crate::pipelines::folder::text_file::read_text;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Files that may name the padding token; the first that does decides.
const NAMING: [&str; 2] = ["special_tokens_map.json", "tokenizer_config.json"];
/// The default padding token of transformers' CLIP tokenizer.
const CLIP_DEFAULT: &str = "<|endoftext|>";

#[derive(Deserialize)]
#[serde(untagged)]
enum Named {
    Text(String),
    Token { content: String },
}

/// The needed keys of both files.
#[derive(Default, Deserialize)]
struct SpecialTokens {
    pad_token: Option<Named>,
    #[serde(default)]
    added_tokens_decoder: BTreeMap<String, Flags>,
}

#[derive(Deserialize)]
struct Flags {
    content: String,
    #[serde(default)]
    normalized: bool,
}

/// The needed keys of a `tokenizer.json`.
#[derive(Deserialize)]
struct Listing {
    #[serde(default)]
    added_tokens: Vec<AddedTokenEntry>,
}

#[derive(Deserialize)]
struct AddedTokenEntry {
    content: String,
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>, WorkerFault> {
    if !path.is_file() {
        return Ok(None);
    }
    let text = read_text(path)?;
    let damaged = |error: serde_json::Error| WorkerFault::WeightsCorrupt {
        file: path.display().to_string(),
        what: error.to_string(),
    };
    serde_json::from_slice(&text).map(Some).map_err(damaged)
}

/// Reads the padding token from a CLIP tokenizer's folder; `None` if no file names it.
///
/// A `tokenizer.json` lists every special token. If it lacks the `published` padding token, transformers uses
/// its default.
///
/// # Errors
/// [`WorkerFault::WeightsCorrupt`] for a damaged file.
pub(super) fn clip_pad(folder: &Path, published: &str) -> Result<Option<String>, WorkerFault> {
    for name in NAMING {
        let said = read::<SpecialTokens>(&folder.join(name))?.unwrap_or_default();
        match said.pad_token {
            Some(Named::Text(token) | Named::Token { content: token }) => return Ok(Some(token)),
            None => {}
        }
    }
    let listing = read::<Listing>(&folder.join("tokenizer.json"))?;
    let lists = |listing: Listing| {
        let mut tokens = listing.added_tokens.into_iter();
        tokens.any(|token| token.content == published)
    };
    Ok(listing.map(|listing| {
        let token = if lists(listing) {
            published
        } else {
            CLIP_DEFAULT
        };
        token.to_owned()
    }))
}

/// Tells whether a special token is searched in the normalized text; false is transformers' default.
///
/// # Errors
/// As [`clip_pad`].
pub(super) fn is_normalized(folder: Option<&Path>, token: &str) -> Result<bool, WorkerFault> {
    let Some(folder) = folder else {
        return Ok(false);
    };
    let said = read::<SpecialTokens>(&folder.join(NAMING[1]))?.unwrap_or_default();
    let mut listed = said.added_tokens_decoder.into_values();
    let flags = listed.find(|flags| flags.content == token);
    Ok(flags.is_some_and(|flags| flags.normalized))
}
