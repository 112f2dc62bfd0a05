//! Token ids of the embedded tokenizers, compared with those of transformers.

mod altered;

use altered::Altered;
use ipc_protocol::exit_code::ExitCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use worker::fault::WorkerFault;
use worker::golden::tokens::{TokenLine, TokenReader, prompts};
use worker::pipelines::folder::vocabulary::Vocabulary;
use worker::pipelines::parts::tokens::{TokenizerFile, Tokens};

const CLIP_END: u32 = 49407;

#[derive(Deserialize)]
struct GoldenTokens {
    prompt: String,
    clip77_eot: Vec<u32>,
    t5_256: Vec<u32>,
}

fn goldens(name: &str) -> Vec<GoldenTokens> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tokens");
    let text = std::fs::read(folder.join(name)).expect("a file of prompts");
    serde_json::from_slice(&text).expect("prompts with ids")
}

fn tokens(vocabulary: Vocabulary, length: usize, pad: u32) -> Tokens {
    let text = vocabulary.published().expect("the built-in tokenizer");
    Tokens::new(&text.file, &text.bytes, length, pad).expect("a good tokenizer")
}

#[track_caller]
fn assert_ids(goldens: &[GoldenTokens]) {
    let (t5, clip) = (
        tokens(Vocabulary::T5, 256, 0),
        tokens(Vocabulary::ClipL, 77, CLIP_END),
    );
    for golden in goldens {
        let prompt = &golden.prompt;
        let ids = [&t5, &clip].map(|tokens| tokens.encode(prompt).expect("any text").ids);
        assert_eq!(ids[0], golden.t5_256, "T5: {prompt:?}");
        assert_eq!(ids[1], golden.clip77_eot, "CLIP: {prompt:?}");
    }
}

#[test]
fn ids_of_simple_prompts_equal_those_of_transformers() {
    let goldens = goldens("published.json");
    assert_eq!(goldens.len(), 22);
    assert_ids(&goldens);
}

#[test]
fn ids_of_other_scripts_long_prompts_spaces_and_special_tokens_equal_those_of_transformers() {
    let goldens = goldens("added.json");
    assert_eq!(goldens.len(), 27);
    assert_ids(&goldens);
}

#[test]
fn a_folders_own_tokenizer_is_used_only_if_it_splits_text_like_the_published_one() {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tokenizers");
    let chosen = |folder: &Altered| {
        let found = Vocabulary::T5.for_encoder(folder.path(), "tokenizer_3", 32128);
        found.expect("a tokenizer").file
    };
    let folder = Altered::copy_of(&assets.join("t5"));
    let own = folder.file("t5_tokenizer.json");
    std::fs::rename(folder.file("tokenizer.json"), &own).expect("a writable copy");
    assert_eq!(chosen(&folder), own.display().to_string());
    folder.replace("t5_tokenizer.json", "\"\u{2581}red\"", "\"\u{2581}other\"");
    assert_eq!(chosen(&folder), "built-in T5 tokenizer");
    std::fs::remove_file(own).expect("a writable copy");
    assert_eq!(chosen(&folder), "built-in T5 tokenizer");
}

#[test]
fn a_small_encoder_cannot_use_the_published_tokenizer() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for vocabulary in [Vocabulary::T5, Vocabulary::ClipL, Vocabulary::ClipG] {
        let fault = vocabulary
            .for_encoder(folder.path(), "tokenizer", 1024)
            .expect_err("no tokenizer");
        assert_eq!(fault.exit_code(), Some(ExitCode::UnusableWeights));
    }
}

#[test]
fn vocabulary_and_merges_in_a_diffusers_folder_are_clips_tokenizer() {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tokenizers");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let own = folder.path().join("tokenizer");
    std::fs::create_dir(&own).expect("a writable folder");
    for name in ["vocab.json", "merges.txt"] {
        std::fs::copy(assets.join("clip").join(name), own.join(name)).expect("a copy");
    }
    let found = Vocabulary::ClipL
        .for_encoder(folder.path(), "tokenizer", 49408)
        .expect("a tokenizer");
    assert_eq!(found.file, own.join("vocab.json").display().to_string());
}

/// The ids of a prompt without padding; those of CLIP-G only if they differ from CLIP-L's.
#[derive(Deserialize)]
struct Recorded {
    t5: Vec<u32>,
    clip_l: Vec<u32>,
    clip_g: Option<Vec<u32>>,
}

fn lines<T: DeserializeOwned>(path: &Path) -> Vec<T> {
    let text = std::fs::read_to_string(path).expect("a recorded file");
    let parsed = text.lines().map(serde_json::from_str);
    parsed
        .collect::<Result<_, _>>()
        .expect("one value for each line")
}

fn filled(mut ids: Vec<u32>, length: usize, pad: u32) -> Vec<u32> {
    ids.resize(length, pad);
    ids
}

/// Compares every prompt of the list; `end` is CLIP's end token.
#[track_caller]
fn assert_recorded(reader: &TokenReader, name: &str, end: u32) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/tokens");
    let every = prompts(&folder.join("prompts.jsonl")).expect("the list of prompts");
    let recorded: Vec<Recorded> = lines(&folder.join(name));
    assert!(every.len() > 1000 && every.len() == recorded.len());
    assert!(recorded.iter().any(|ids| ids.clip_g.is_some()));
    let mut differing = Vec::new();
    for (prompt, ids) in every.iter().zip(recorded) {
        let wanted = TokenLine {
            prompt: prompt.clone(),
            t5: filled(ids.t5, 256, 0),
            clip_g: Some(filled(
                ids.clip_g.unwrap_or_else(|| ids.clip_l.clone()),
                77,
                0,
            )),
            clip_l: filled(ids.clip_l, 77, end),
        };
        let ours = reader.line(prompt).expect("any text has ids");
        if ours != wanted {
            differing.push(format!("{ours:?}\ninstead of {wanted:?}"));
        }
    }
    let first = differing.first();
    assert!(first.is_none(), "{} differ: {first:?}", differing.len());
}

#[test]
fn ids_of_difficult_prompts_equal_those_of_transformers_with_the_published_vocabularies() {
    let reader = TokenReader::published().expect("the built-in tokenizers");
    assert_recorded(&reader, "published.jsonl", CLIP_END);
}

#[test]
fn ids_of_difficult_prompts_equal_those_of_transformers_with_a_folders_own_vocabularies() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/tiny-sd3");
    let reader = TokenReader::of_folder(&folder).expect("a good folder");
    assert_recorded(&reader, "tiny.jsonl", 1023);
}

/// The published CLIP vocabulary as a component of a diffusers folder.
fn component(folder: &Path, name: &str, files: &[(&str, &str)]) {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tokenizers/clip");
    let own = folder.join(name);
    std::fs::create_dir(&own).expect("a writable folder");
    for name in ["vocab.json", "merges.txt"] {
        std::fs::copy(assets.join(name), own.join(name)).expect("a copy");
    }
    for (name, text) in files {
        std::fs::write(own.join(name), text).expect("a writable folder");
    }
}

/// Returns CLIP-G's ids of "hello world!", with begin, end and the first padding.
fn hello_world(folder: &Path) -> Result<Vec<u32>, WorkerFault> {
    let found: TokenizerFile = Vocabulary::ClipG.for_encoder(folder, "tokenizer_2", 49408)?;
    let ids = Tokens::load(&found, 77, 0)?.encode("hello world!")?.ids;
    Ok(ids[..6].to_vec())
}

const SPECIAL: [u32; 6] = [49406, 3306, 1002, 0, CLIP_END, 0];
const TEXT: [u32; 6] = [49406, 3306, 1002, 256, CLIP_END, CLIP_END];

#[test]
fn clip_g_reads_an_exclamation_mark_as_its_padding_token() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert_eq!(hello_world(folder.path()).expect("built in"), SPECIAL);
    component(folder.path(), "tokenizer", &[]);
    assert_eq!(hello_world(folder.path()).expect("CLIP-L's"), SPECIAL);
}

#[test]
fn a_folders_own_files_decide_the_padding_token_of_clip_g() {
    let (config, map) = ("tokenizer_config.json", "special_tokens_map.json");
    let bang = r#"{"pad_token": "!"}"#;
    let end = r#"{"pad_token": {"content": "<|endoftext|>", "normalized": false}}"#;
    type TokenizerPaths<'a> = &'a [(&'a str, &'a str)];
    let cases: [(TokenizerPaths<'_>, [u32; 6]); 5] = [
        (&[(config, bang)], SPECIAL),
        (&[(config, end)], TEXT),
        (&[(map, end)], TEXT),
        (&[(config, end), (map, bang)], SPECIAL),
        (&[(config, bang), (map, end)], TEXT),
    ];
    for (files, wanted) in cases {
        let folder = tempfile::tempdir().expect("a temporary folder");
        component(folder.path(), "tokenizer_2", files);
        assert_eq!(
            hello_world(folder.path()).expect("ids"),
            wanted,
            "{files:?}"
        );
    }
}

#[test]
fn without_an_exclamation_mark_in_tokenizer_json_it_is_read_as_text() {
    let published = Vocabulary::ClipL
        .published()
        .expect("the built-in tokenizer");
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(folder.path().join("tokenizer_2")).expect("a writable folder");
    let path = folder.path().join("tokenizer_2/tokenizer.json");
    std::fs::write(&path, &published.bytes).expect("a writable folder");
    assert_eq!(hello_world(folder.path()).expect("ids"), TEXT);
    let mut text: serde_json::Value = serde_json::from_slice(&published.bytes).expect("JSON");
    let mark = serde_json::json!({"id": 0, "content": "!", "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true});
    text["added_tokens"]
        .as_array_mut()
        .expect("a list")
        .push(mark);
    std::fs::write(&path, text.to_string()).expect("a writable folder");
    assert_eq!(hello_world(folder.path()).expect("ids"), SPECIAL);
}

#[test]
fn a_padding_token_outside_the_vocabulary_is_refused_with_its_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let said = ("tokenizer_config.json", r#"{"pad_token": "<nothing>"}"#);
    component(folder.path(), "tokenizer_2", &[said]);
    let fault = hello_world(folder.path()).expect_err("no such piece");
    assert_eq!(fault.exit_code(), Some(ExitCode::BadConfiguration));
    assert!(fault.to_string().contains("<nothing>"), "{fault}");
}

#[test]
fn special_tokens_have_the_flags_of_the_folder() {
    // Recorded with transformers 5.24.0: without flags, a special token must match exactly.
    let upper = |files: &[(&str, &str)]| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        component(folder.path(), "tokenizer", files);
        let found = Vocabulary::ClipL.for_encoder(folder.path(), "tokenizer", 49408);
        let tokens = Tokens::load(&found.expect("a tokenizer"), 77, CLIP_END);
        let ids = tokens.expect("good files").encode("<|STARTOFTEXT|>");
        ids.expect("ids").ids[..3].to_vec()
    };
    assert_eq!(upper(&[]), [49406, 27, 347]);
    let flags = r#"{"added_tokens_decoder": {"49406": {"content": "<|startoftext|>", "normalized": true}}}"#;
    let normalized = upper(&[("tokenizer_config.json", flags)]);
    assert_eq!(normalized, [49406, 49406, CLIP_END]);
}
