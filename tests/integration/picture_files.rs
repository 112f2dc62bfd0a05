//! Files of pictures: the same bytes by the command and over HTTP, in each format and quality.

use std::fs;

use serde_json::{Value, json};
use tests::daemon::TestDaemon;
use tests::http::from_base64;

const PROMPT: &str = "a red <circle> & a \"blue\" square";

/// The answer to a request over HTTP for one picture of the seed 5.
fn asked(daemon: &TestDaemon, fields: &Value) -> Value {
    let mut body = json!({"model": "pocket-flux", "prompt": PROMPT, "seed": 5, "size": "128x128"});
    for (name, value) in fields.as_object().expect("fields") {
        body[name] = value.clone();
    }
    daemon.http().post("/v1/images/generations", &body).ok()
}

/// The file in the answer.
fn file(answer: &Value) -> Vec<u8> {
    from_base64(&answer["data"][0]["b64_json"])
}

#[test]
fn a_file_has_the_same_bytes_by_the_command_and_over_http() {
    let daemon = TestDaemon::start("");
    let formats = [
        ("a.png", json!({"output_format": "png"})),
        ("a.webp", json!({"output_format": "webp"})),
        (
            "a.jpg",
            json!({"output_format": "jpeg", "output_compression": 92}),
        ),
    ];
    for (name, fields) in formats {
        let line = [
            "generate",
            PROMPT,
            "-m",
            "pocket-flux",
            "--seed",
            "5",
            "-o",
            name,
        ];
        daemon.imagepool(&line).succeeded();
        let drawn = fs::read(daemon.sandbox.pictures().join(name)).expect("it was drawn");
        assert!(file(&asked(&daemon, &fields)) == drawn, "{name}");
    }
}

#[test]
fn a_lower_compression_value_gives_smaller_files_that_can_be_replayed() {
    let daemon = TestDaemon::start("");
    for format in ["jpeg", "webp"] {
        let mut last = usize::MAX;
        for compression in [100, 80, 40, 0] {
            let fields = json!({"output_format": format, "output_compression": compression});
            let bytes = file(&asked(&daemon, &fields));
            assert!(bytes.len() < last, "{format} at {compression}");
            last = bytes.len();
            let path = daemon.sandbox.pictures().join("a");
            fs::write(&path, bytes).expect("our own folder");
            let output = daemon.imagepool(&["replay", "a", "--json"]).succeeded();
            let lossy = format == "jpeg" || compression < 100;
            assert_eq!(output.json()[0]["lossy"], json!(lossy));
        }
    }
}

#[test]
fn a_setting_leaves_the_metadata_out_over_http_too() {
    let daemon = TestDaemon::start("[pictures]\nmetadata = false");
    for format in ["png", "jpeg", "webp"] {
        let bytes = file(&asked(&daemon, &json!({"output_format": format})));
        for word in [&b"imagepool"[..], b"xmp"] {
            let found = bytes.windows(word.len()).any(|part| part == word);
            assert!(!found, "{format}: {:?}", String::from_utf8_lossy(word));
        }
    }
}

#[test]
fn usage_counts_the_tokens_that_the_model_read() {
    let daemon = TestDaemon::start("");
    for (prompt, tokens) in [("red", 2), ("red blue green", 4)] {
        let answer = asked(&daemon, &json!({"prompt": prompt}));
        let usage = &answer["usage"];
        assert_eq!(usage["input_tokens"], tokens, "{prompt}: {usage}");
        assert_eq!(usage["input_tokens_details"]["text_tokens"], tokens);
    }
}
