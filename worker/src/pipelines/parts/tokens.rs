//! Converts prompts to token ids, cut and padded like in the references.

use crate::fault::WorkerFault;
use crate::panics;
use ipc_protocol::untrusted::Untrusted;
use std::borrow::Cow;
use tokenizers::{AddedToken, Encoding, Tokenizer, TruncationParams};

/// A text that every tokenizer must be able to encode.
const PROBE: &str = "a";

/// The content of a tokenizer's file.
#[derive(Debug)]
pub struct TokenizerFile {
    /// Name of the file in messages.
    pub file: String,
    /// Bytes of the file.
    pub bytes: Cow<'static, [u8]>,
    /// The padding token named by the other tokenizer files, if any.
    pub pad_token: Option<String>,
}

/// A tokenizer with the length and padding of its encoder.
pub struct Tokens {
    file: String,
    tokenizer: Tokenizer,
    length: usize,
    pad: u32,
}

/// The token ids of one prompt.
pub struct Ids {
    /// Token ids, padded or cut to the requested length.
    pub ids: Vec<u32>,
    /// Number of token ids with the end token and without padding.
    pub count: usize,
    /// True if the prompt was longer and was cut; its end token is kept.
    pub cut: bool,
    /// Words without a token in the vocabulary, each once, in the prompt's order.
    pub unknown: Vec<String>,
}

impl Tokens {
    /// Reads a `tokenizer.json`. Its truncation and padding settings are not used.
    ///
    /// As in transformers, the padding token is a special token: it is recognised anywhere in the text. In
    /// CLIP-G it is `!`.
    ///
    /// # Errors
    /// [`WorkerFault::WeightsCorrupt`] if `bytes` are not a tokenizer file, or one that cannot encode a word.
    pub fn new(file: &str, bytes: &[u8], length: usize, pad: u32) -> Result<Tokens, WorkerFault> {
        // The library panics on some files: a template with tokens that the file lacks, for one.
        let read = panics::caught(|| Tokens::read(file, bytes, length, pad));
        let tokens = read.unwrap_or_else(|message| Err(unfit(file, &message)))?;
        match tokens.encode(PROBE) {
            Ok(_) => Ok(tokens),
            Err(WorkerFault::BadRequest { sentence, .. }) => Err(unfit(file, &sentence)),
            Err(other) => Err(other),
        }
    }

    fn read(file: &str, bytes: &[u8], length: usize, pad: u32) -> Result<Tokens, WorkerFault> {
        let corrupt = |error: tokenizers::Error| WorkerFault::WeightsCorrupt {
            file: file.to_owned(),
            what: error.to_string(),
        };
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(corrupt)?;
        tokenizer.with_padding(None);
        let known = tokenizer.get_added_tokens_decoder().contains_key(&pad);
        if let Some(token) = tokenizer.id_to_token(pad).filter(|_| !known) {
            let special = AddedToken::from(token, true);
            tokenizer.add_special_tokens([special]).map_err(corrupt)?;
        }
        cut_to(&mut tokenizer, length).map_err(corrupt)?;
        Ok(Tokens {
            file: file.to_owned(),
            tokenizer,
            length,
            pad,
        })
    }

    /// Reads a tokenizer. `pad` is the padding token's id, unless the tokenizer's files name the token.
    ///
    /// # Errors
    /// As [`Tokens::new`]; [`WorkerFault::Configuration`] if the padding token is not in the vocabulary.
    pub fn load(from: &TokenizerFile, length: usize, pad: u32) -> Result<Tokens, WorkerFault> {
        let tokens = Tokens::new(&from.file, &from.bytes, length, pad)?;
        let Some(named) = &from.pad_token else {
            return Ok(tokens);
        };
        match tokens.tokenizer.token_to_id(named) {
            Some(id) if id == pad => Ok(tokens),
            Some(id) => Tokens::new(&from.file, &from.bytes, length, id),
            None => {
                let what = format!("is {named:?}, which is not in the vocabulary");
                Err(WorkerFault::configuration(&from.file, "pad_token", what))
            }
        }
    }

    /// Encodes a prompt as token ids, padded or cut to this encoder's length.
    ///
    /// # Errors
    /// As [`Tokens::encode_to`].
    pub fn encode(&self, prompt: &str) -> Result<Ids, WorkerFault> {
        self.ids(&self.tokenizer, prompt, self.length)
    }

    /// Encodes a prompt as exactly `length` token ids. A shorter prompt is padded; a longer one loses its last words
    /// and keeps its end token.
    ///
    /// # Errors
    /// [`WorkerFault::BadRequest`] for `prompt` if the tokenizer refuses the text; [`WorkerFault::WeightsCorrupt`] if
    /// its file makes that impossible.
    pub fn encode_to(&self, prompt: &str, length: usize) -> Result<Ids, WorkerFault> {
        if length == self.length {
            return self.encode(prompt);
        }
        let mut tokenizer = self.tokenizer.clone();
        cut_to(&mut tokenizer, length).map_err(refused)?;
        self.ids(&tokenizer, prompt, length)
    }

    fn ids(&self, tokenizer: &Tokenizer, prompt: &str, length: usize) -> Result<Ids, WorkerFault> {
        let encoded = panics::caught(|| tokenizer.encode(prompt, true));
        let encoded = encoded.map_err(|message| unfit(&self.file, &message))?;
        let encoding = encoded.map_err(refused)?;
        let cut = !encoding.get_overflowing().is_empty();
        let mut ids = encoding.get_ids().to_vec();
        let count = ids.len();
        let unknown = self.unknown(prompt, &encoding);
        ids.resize(length, self.pad);
        Ok(Ids {
            ids,
            count,
            cut,
            unknown,
        })
    }

    /// The parts of a prompt that became the token for unknown words. A tokenizer that can encode all bytes has
    /// no such token.
    fn unknown(&self, prompt: &str, encoding: &Encoding) -> Vec<String> {
        let token = self.tokenizer.token_to_id("<unk>");
        let places = encoding.get_ids().iter().zip(encoding.get_offsets());
        let mut words: Vec<String> = Vec::new();
        for (_, &(start, end)) in places.filter(|(id, _)| Some(**id) == token) {
            let word = prompt.get(start..end).unwrap_or_default();
            if !word.is_empty() && !words.iter().any(|known| known == word) {
                words.push(word.to_owned());
            }
        }
        words
    }
}

fn cut_to(tokenizer: &mut Tokenizer, length: usize) -> tokenizers::Result<()> {
    let truncation = TruncationParams {
        max_length: length,
        ..TruncationParams::default()
    };
    tokenizer.with_truncation(Some(truncation)).map(|_| ())
}

/// The error for a file whose use made the library panic.
fn unfit(file: &str, message: &str) -> WorkerFault {
    WorkerFault::WeightsCorrupt {
        file: file.to_owned(),
        what: format!("cannot be used as a tokenizer: {}", Untrusted::new(message)),
    }
}

fn refused(error: tokenizers::Error) -> WorkerFault {
    WorkerFault::BadRequest {
        field: "prompt",
        sentence: format!("cannot be tokenized: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_protocol::exit_code::ExitCode;

    const WORDS: &str = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],
        "normalizer":null,"pre_tokenizer":{"type":"Whitespace"},"decoder":null,
        "post_processor":{"type":"TemplateProcessing",
            "single":[{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"</s>","type_id":0}}],
            "pair":[{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"</s>","type_id":0}}],
            "special_tokens":{"</s>":{"id":"</s>","ids":[1],"tokens":["</s>"]}}},
        "model":{"type":"WordLevel","vocab":{"<pad>":0,"</s>":1,"<unk>":2,"red":3},"unk_token":"<unk>"}}"#;

    #[test]
    fn a_short_prompt_is_padded_and_a_long_one_keeps_its_end_token() {
        let tokens = Tokens::new("t5", WORDS.as_bytes(), 4, 0).expect("a tokenizer");
        let short = tokens.encode("red").expect("words");
        assert_eq!((short.ids, short.cut), (vec![3, 1, 0, 0], false));
        assert_eq!(short.count, 2, "the end token counts and padding does not");
        let full = tokens.encode("red red blue").expect("words");
        assert_eq!((full.ids, full.cut), (vec![3, 3, 2, 1], false));
        let long = tokens.encode("red red red red").expect("words");
        assert_eq!((long.ids, long.cut), (vec![3, 3, 3, 1], true));
        assert_eq!((full.count, long.count), (4, 4));
    }

    #[test]
    fn a_word_without_a_token_is_reported_once_as_it_was_written() {
        let tokens = Tokens::new("t5", WORDS.as_bytes(), 8, 0).expect("a tokenizer");
        let read = tokens.encode("Blau red grün Blau").expect("words");
        assert_eq!(read.ids, [2, 3, 2, 2, 1, 0, 0, 0]);
        assert_eq!(read.unknown, ["Blau", "grün"]);
    }

    #[test]
    fn a_damaged_tokenizer_is_corrupt() {
        let without_end =
            WORDS.replace(r#""special_tokens":{"</s>""#, r#""special_tokens":{"<s>""#);
        let without_unknown = WORDS.replace(r#","unk_token":"<unk>""#, "");
        for text in ["{\"model\":", &without_end, &without_unknown] {
            let fault = Tokens::new("t5_tokenizer.json", text.as_bytes(), 4, 0).err();
            let code = fault.as_ref().and_then(WorkerFault::exit_code);
            assert_eq!(code, Some(ExitCode::UnusableWeights), "{fault:?} {text}");
        }
    }
}
