//! The two published tokenizers, embedded in this program, and the choice of a folder's own one.
//!
//! Sources and licences: `worker/assets/tokenizers/README.md`.

mod special;

use crate::fault::WorkerFault;
use crate::pipelines::folder::text_file::read_text;
use crate::pipelines::parts::tokens::{TokenizerFile, Tokens};
use crate::weights::Weights;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

const T5: &[u8] = include_bytes!("../../../assets/tokenizers/t5/tokenizer.json");
const CLIP_VOCABULARY: &[u8] = include_bytes!("../../../assets/tokenizers/clip/vocab.json");
const CLIP_MERGES: &str = include_str!("../../../assets/tokenizers/clip/merges.txt");

/// The regular expression with which CLIP's tokenizer splits text: openai/CLIP, `clip/simple_tokenizer.py`.
const CLIP_WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
const CLIP_BEGIN: u32 = 49406;
const CLIP_END: u32 = 49407;

/// A text that a tokenizer must split like the published one to count as equal: case, digits, accents,
/// ligatures, other scripts, signs, spaces, and an end token.
const PROBE: &str = "A red-hot caf\u{e9}, 1979 'n' \u{fb01}sh\u{65e5}\u{672c} \u{1f600}  it's <|endoftext|> </s> x ";
const PROBE_LENGTH: usize = 77;

/// A published tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vocabulary {
    /// T5 1.1's tokenizer: 32,100 pieces.
    T5,
    /// CLIP-L's tokenizer: 49,408 pieces, padded with the end token.
    ClipL,
    /// CLIP-G's tokenizer: the same pieces, padded with `!`, which is therefore a special token.
    ClipG,
}

impl Vocabulary {
    /// The published tokenizer as one JSON text.
    ///
    /// # Errors
    /// Only if this program was built from damaged files.
    pub fn published(self) -> Result<TokenizerFile, WorkerFault> {
        let (name, bytes) = match self {
            Vocabulary::T5 => ("built-in T5 tokenizer", Cow::Borrowed(T5)),
            Vocabulary::ClipL | Vocabulary::ClipG => (
                "built-in CLIP tokenizer",
                Cow::Owned(clip(CLIP_VOCABULARY, CLIP_MERGES, None)?),
            ),
        };
        Ok(TokenizerFile {
            file: name.to_owned(),
            bytes,
            pad_token: None,
        })
    }

    fn pieces(self) -> usize {
        match self {
            Vocabulary::T5 => 32100,
            Vocabulary::ClipL | Vocabulary::ClipG => 49408,
        }
    }

    /// The padding token of the published tokenizer.
    fn pad_token(self) -> &'static str {
        match self {
            Vocabulary::T5 => "<pad>",
            Vocabulary::ClipL => "<|endoftext|>",
            Vocabulary::ClipG => "!",
        }
    }

    /// File names of a folder's own tokenizer, besides those of a diffusers component.
    fn files(self) -> &'static [&'static str] {
        match self {
            Vocabulary::T5 => &["t5_tokenizer.json", "tokenizers/t5/tokenizer.json"],
            Vocabulary::ClipL => &["clip_tokenizer.json", "tokenizers/clip/tokenizer.json"],
            Vocabulary::ClipG => &[],
        }
    }

    /// Chooses the tokenizer for an encoder with `rows` embeddings, the folder's own or the published one.
    /// `component` is its folder in a diffusers pipeline.
    ///
    /// An encoder with fewer rows than the published tokenizer has pieces needs its own. Others use their own if it
    /// splits text like the published one; if not, the published one is used, with a warning on stderr. CLIP-G without
    /// a tokenizer uses CLIP-L's.
    ///
    /// # Errors
    /// [`WorkerFault::WeightsMissing`] if a small encoder has no tokenizer; [`WorkerFault::WeightsCorrupt`] for a
    /// damaged one.
    pub fn for_encoder(
        self,
        folder: &Path,
        component: &str,
        rows: usize,
    ) -> Result<TokenizerFile, WorkerFault> {
        let chosen = self.choose(folder, component, rows)?;
        let pad_token = match self {
            Vocabulary::T5 => None,
            Vocabulary::ClipL | Vocabulary::ClipG => {
                special::clip_pad(&folder.join(component), self.pad_token())?
            }
        };
        Ok(TokenizerFile {
            pad_token,
            ..chosen
        })
    }

    fn choose(
        self,
        folder: &Path,
        component: &str,
        rows: usize,
    ) -> Result<TokenizerFile, WorkerFault> {
        let own = self.own(folder, component)?;
        if rows < self.pieces() {
            return own.ok_or_else(|| self.missing(folder, rows));
        }
        let published = self.published()?;
        let Some(own) = own else {
            return Ok(published);
        };
        let probe = |text: &TokenizerFile| -> Result<Vec<u32>, WorkerFault> {
            let tokens = Tokens::new(&text.file, &text.bytes, PROBE_LENGTH, 0)?;
            Ok(tokens.encode(PROBE)?.ids)
        };
        if probe(&own)? == probe(&published)? {
            return Ok(own);
        }
        eprintln!(
            "worker: {}: splits text differently from the published tokenizer, which is used instead",
            own.file
        );
        Ok(published)
    }

    fn own(self, folder: &Path, component: &str) -> Result<Option<TokenizerFile>, WorkerFault> {
        let names = self.files().iter().map(|name| folder.join(name));
        let mut paths = names.chain([folder.join(component).join("tokenizer.json")]);
        if let Some(path) = paths.find(|path| path.is_file()) {
            let bytes = read_text(&path)?;
            return Ok(Some(TokenizerFile {
                file: path.display().to_string(),
                bytes: Cow::Owned(bytes),
                pad_token: None,
            }));
        }
        if self == Vocabulary::T5 {
            return Ok(None);
        }
        match (clip_pair(&folder.join(component))?, self) {
            (None, Vocabulary::ClipG) => Vocabulary::ClipL.own(folder, "tokenizer"),
            (found, _) => Ok(found),
        }
    }

    fn missing(self, folder: &Path, rows: usize) -> WorkerFault {
        let file = match self {
            Vocabulary::T5 => "t5_tokenizer.json",
            Vocabulary::ClipL | Vocabulary::ClipG => "clip_tokenizer.json",
        };
        WorkerFault::WeightsMissing {
            file: folder.join(file).display().to_string(),
            what: format!(
                "no such file, and {rows} embeddings are too few for the built-in tokenizer"
            ),
        }
    }
}

/// Builds CLIP's tokenizer from the two files of a component.
fn clip_pair(folder: &Path) -> Result<Option<TokenizerFile>, WorkerFault> {
    let pair = ["vocab.json", "merges.txt"].map(|name| folder.join(name));
    if !pair.iter().all(|path| path.is_file()) {
        return Ok(None);
    }
    let merges = read_text(&pair[1])?;
    let text = String::from_utf8_lossy(&merges);
    Ok(Some(TokenizerFile {
        file: pair[0].display().to_string(),
        bytes: Cow::Owned(clip(&read_text(&pair[0])?, &text, Some(folder))?),
        pad_token: None,
    }))
}

/// Builds CLIP's tokenizer from its two files, like transformers' `CLIPTokenizer`. `folder` may contain a
/// `tokenizer_config.json` with the flags of its special tokens.
fn clip(vocabulary: &[u8], merges: &str, folder: Option<&Path>) -> Result<Vec<u8>, WorkerFault> {
    let corrupt = |error: serde_json::Error| WorkerFault::WeightsCorrupt {
        file: "vocab.json".to_owned(),
        what: error.to_string(),
    };
    let pieces: HashMap<String, u32> = serde_json::from_slice(vocabulary).map_err(corrupt)?;
    let id = |piece: &str, published| pieces.get(piece).copied().unwrap_or(published);
    let (begin, end) = (
        id("<|startoftext|>", CLIP_BEGIN),
        id("<|endoftext|>", CLIP_END),
    );
    let merges: Vec<&str> = merges
        .lines()
        .skip(1)
        .filter(|line| !line.is_empty())
        .collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [
            added("<|startoftext|>", begin, special::is_normalized(folder, "<|startoftext|>")?),
            added("<|endoftext|>", end, special::is_normalized(folder, "<|endoftext|>")?)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "},
            {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": CLIP_WORDS}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]},
        "post_processor": {"type": "RobertaProcessing", "sep": ["<|endoftext|>", end],
            "cls": ["<|startoftext|>", begin], "trim_offsets": false, "add_prefix_space": false},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<|endoftext|>",
            "continuing_subword_prefix": "", "end_of_word_suffix": "</w>", "fuse_unk": false,
            "byte_fallback": false, "ignore_merges": false, "vocab": pieces, "merges": merges},
    });
    serde_json::to_vec(&tokenizer).map_err(corrupt)
}

fn added(content: &str, id: u32, normalized: bool) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": normalized, "special": true})
}

/// Name of T5's tensor with a row for each token.
pub const T5_EMBEDDING: &str = "shared.weight";
/// Name of CLIP's tensor with a row for each token.
pub const CLIP_EMBEDDING: &str = "text_model.embeddings.token_embedding.weight";

/// Number of rows of a tensor. For a missing tensor the largest number, because loading reports it.
pub fn rows(weights: &Weights, name: &str) -> usize {
    let shape = weights.shape(name);
    shape
        .and_then(|shape| shape.first())
        .copied()
        .unwrap_or(usize::MAX)
}
