//! Token ids of the tokenizers that ship with the worker, against those of transformers.

mod altered;

use altered::Altered;
use serde::Deserialize;
use std::path::Path;
use worker::pipelines::tokens::Tokens;
use worker::pipelines::vocabulary::Vocabulary;

const CLIP_END: u32 = 49407;

#[derive(Deserialize)]
struct Golden {
    prompt: String,
    clip77_eot: Vec<u32>,
    t5_256: Vec<u32>,
}

fn goldens(name: &str) -> Vec<Golden> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tokens");
    let text = std::fs::read(folder.join(name)).expect("a file of prompts");
    serde_json::from_slice(&text).expect("prompts with ids")
}

fn tokens(vocabulary: Vocabulary, length: usize, pad: u32) -> Tokens {
    let text = vocabulary.published().expect("the built-in tokenizer");
    Tokens::new(&text.file, &text.bytes, length, pad).expect("a good tokenizer")
}

#[track_caller]
fn assert_ids(goldens: &[Golden]) {
    let (t5, clip) = (
        tokens(Vocabulary::T5, 256, 0),
        tokens(Vocabulary::Clip, 77, CLIP_END),
    );
    for golden in goldens {
        let prompt = &golden.prompt;
        let ids = [&t5, &clip].map(|tokens| tokens.encode(prompt).expect("any text").ids);
        assert_eq!(ids[0], golden.t5_256, "T5: {prompt:?}");
        assert_eq!(ids[1], golden.clip77_eot, "CLIP: {prompt:?}");
    }
}

#[test]
fn ids_of_the_published_prompts_are_those_of_transformers() {
    let goldens = goldens("published.json");
    assert_eq!(goldens.len(), 22);
    assert_ids(&goldens);
}

#[test]
fn so_are_those_of_other_scripts_long_prompts_blanks_and_special_tokens() {
    let goldens = goldens("added.json");
    assert_eq!(goldens.len(), 27);
    assert_ids(&goldens);
}

#[test]
fn a_folders_own_tokenizer_is_used_only_when_it_splits_alike() {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tokenizers");
    let chosen = |folder: &Altered| {
        let found = Vocabulary::T5.for_encoder(folder.path(), 32128);
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
    for vocabulary in [Vocabulary::T5, Vocabulary::Clip] {
        let fault = vocabulary
            .for_encoder(folder.path(), 1024)
            .expect_err("no tokenizer");
        assert_eq!(fault.exit_code(), Some(66));
    }
}

#[test]
fn clips_two_files_in_a_diffusers_folder_are_its_tokenizer() {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tokenizers");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let own = folder.path().join("tokenizer");
    std::fs::create_dir(&own).expect("a writable folder");
    for name in ["vocab.json", "merges.txt"] {
        std::fs::copy(assets.join("clip").join(name), own.join(name)).expect("a copy");
    }
    let found = Vocabulary::Clip
        .for_encoder(folder.path(), 49408)
        .expect("a tokenizer");
    assert_eq!(found.file, own.join("vocab.json").display().to_string());
}
