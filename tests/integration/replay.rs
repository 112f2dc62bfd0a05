//! A picture's file is enough to draw the picture again, and to see whether it is still the same.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use ipc_protocol::untrusted::is_obeyed;
use serde_json::{Value, json};
use tests::daemon::TestDaemon;
use tests::misbehaviours::OBEYED;
use tests::program::ProgramOutput;
use tests::sandbox::Sandbox;

const PROMPT: &str = "a \"purple\" heart on a yellow background";

/// Draws `a.png`, and whatever else is asked for.
fn draw(sandbox: &Sandbox, more: &[&str]) {
    let ask = ["generate", PROMPT, "--seed", "5", "--steps", "3"];
    sandbox.imagepool(&[&ask, more].concat()).succeeded();
}

/// Writes `to` as `from` with other pixels or another receipt.
fn altered(from: &Path, to: &Path, alter: impl FnOnce(&mut Vec<u8>, &mut Value)) {
    let bytes = fs::read(from).expect("it was drawn");
    let mut reader = png::Decoder::new(Cursor::new(bytes))
        .read_info()
        .expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("it fits memory")];
    let frame = reader.next_frame(&mut pixels).expect("a whole PNG");
    let chunk = &reader.info().utf8_text[0];
    let text = chunk.get_text().expect("it is not packed");
    let mut receipt = serde_json::from_str(&text).expect("JSON");
    alter(&mut pixels, &mut receipt);
    let file = fs::File::create(to).expect("our own folder");
    let mut encoder = png::Encoder::new(file, frame.width, frame.height);
    encoder.set_color(frame.color_type);
    encoder.set_depth(frame.bit_depth);
    encoder
        .add_itxt_chunk(chunk.keyword.clone(), receipt.to_string())
        .expect("a text");
    let mut writer = encoder.write_header().expect("our own folder");
    writer.write_image_data(&pixels).expect("our own folder");
    writer.finish().expect("our own folder");
}

/// Pictures that the daemon's workers have drawn.
fn jobs_done(daemon: &TestDaemon) -> u64 {
    let status = daemon.status();
    status.workers.iter().map(|worker| worker.jobs_done).sum()
}

/// Replays `a.png` with one field of its receipt changed.
fn replayed_with(sandbox: &Sandbox, field: &str, value: Value) -> ProgramOutput {
    let folder = sandbox.pictures();
    altered(
        &folder.join("a.png"),
        &folder.join("b.png"),
        |_, receipt| receipt[field] = value,
    );
    sandbox.imagepool(&["replay", "b.png", "--json"])
}

#[test]
fn a_picture_comes_out_again_through_a_daemon_and_through_a_private_pool() {
    let daemon = TestDaemon::start("");
    draw(&daemon.sandbox, &["-n", "2", "-o", "a.png"]);
    for file in ["a-1.png", "a-2.png"] {
        let output = daemon.imagepool(&["replay", file]).succeeded();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.starts_with(&format!("{file}: identical: ")), "{said}");
    }
    assert_eq!(jobs_done(&daemon), 4, "the daemon drew them");
    let output = daemon
        .imagepool(&["--private", "replay", "a-2.png", "--json"])
        .succeeded();
    let lines = output.json();
    assert_eq!(lines.len(), 1);
    let told = &lines[0];
    assert_eq!(
        (&told["same"], &told["identical"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(
        (&told["bytes"], &told["different"]),
        (&json!(128 * 128 * 3), &json!(0))
    );
    assert_eq!((&told["seed"], &told["changed"]), (&json!(6), &json!({})));
    assert_eq!(told["file"], "a-2.png");
}

#[test]
fn a_jpeg_and_a_webp_come_out_again_and_a_changed_jpeg_does_not() {
    let daemon = TestDaemon::start("");
    draw(&daemon.sandbox, &["-o", "a.jpg"]);
    draw(&daemon.sandbox, &["-o", "a.webp"]);
    for (file, lossy) in [("a.jpg", true), ("a.webp", false)] {
        let told = daemon
            .imagepool(&["replay", file, "--json"])
            .succeeded()
            .json()
            .remove(0);
        assert_eq!(
            (&told["same"], &told["identical"], &told["lossy"]),
            (&json!(true), &json!(true), &json!(lossy)),
            "{file}"
        );
    }
    let output = daemon.imagepool(&["replay", "a.jpg"]).succeeded();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.starts_with("a.jpg: identical: encoded again at quality 92"),
        "{said}"
    );
    let folder = daemon.sandbox.pictures();
    let mut bytes = fs::read(folder.join("a.jpg")).expect("it was drawn");
    let middle = bytes.len() - 1000; // among the compressed pixels
    bytes[middle] ^= 1;
    fs::write(folder.join("b.jpg"), bytes).expect("our own folder");
    let output = daemon.imagepool(&["replay", "b.jpg"]).ended_with(1);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with("b.jpg: different: "), "{said}");
    assert!(said.contains("the format is lossy"), "{said}");
}

#[test]
fn without_a_daemon_a_private_pool_draws_it_again_and_leaves() {
    let sandbox = Sandbox::new("");
    draw(&sandbox, &["-o", "a.png"]);
    let output = sandbox.imagepool(&["replay", "a.png"]).succeeded();
    assert!(output.stderr.contains("private pool"), "{}", output.stderr);
    assert!(sandbox.processes().is_empty(), "{:?}", sandbox.processes());
    let silent = sandbox.imagepool(&["replay", "a.png", "-q"]).succeeded();
    assert!(
        silent.stdout.is_empty() && silent.stderr.is_empty(),
        "{silent:?}"
    );
}

#[test]
fn one_changed_byte_is_reported_with_its_share_and_its_size() {
    let daemon = TestDaemon::start("");
    draw(&daemon.sandbox, &["-o", "a.png"]);
    let folder = daemon.sandbox.pictures();
    let mut by = 0;
    altered(&folder.join("a.png"), &folder.join("b.png"), |pixels, _| {
        let old = pixels[1000];
        pixels[1000] = if old < 128 { 255 } else { 0 };
        by = pixels[1000].abs_diff(old);
    });
    let output = daemon.imagepool(&["replay", "b.png"]).ended_with(1);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let expected = format!("1 of 49152 bytes differ (0.002 %), by {by} at most");
    assert!(said.contains(&expected), "{said}");
    let told = daemon
        .imagepool(&["replay", "b.png", "--json"])
        .ended_with(1)
        .json()
        .remove(0);
    assert_eq!(
        (&told["same"], &told["identical"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(
        (&told["different"], &told["largest"]),
        (&json!(1), &json!(by))
    );
    assert_eq!(told["share"].as_f64(), Some(1.0 / 49152.0));
}

#[test]
fn every_field_of_the_request_is_in_the_receipt_and_followed() {
    let daemon = TestDaemon::start("");
    draw(&daemon.sandbox, &["-o", "a.png"]);
    let changes = [
        ("prompt", json!("a green star on a black background")),
        ("seed", json!(6)),
        ("steps", json!(2)),
    ];
    for (field, value) in changes {
        let told = replayed_with(&daemon.sandbox, field, value)
            .ended_with(1)
            .json()
            .remove(0);
        assert_eq!(told["identical"], json!(false), "{field}: {told}");
        assert!(told["different"].as_u64() > Some(0), "{field}: {told}");
    }
    let told = replayed_with(&daemon.sandbox, "size", json!("64x64"))
        .ended_with(1)
        .json()
        .remove(0);
    let sizes = json!({"file": "128x128", "now": "64x64"});
    assert_eq!(
        (&told["changed"]["size"], &told["bytes"]),
        (&sizes, &json!(null))
    );
}

#[test]
fn a_receipt_that_names_other_weights_says_so_and_another_version_is_only_told() {
    let daemon = TestDaemon::start("");
    draw(&daemon.sandbox, &["-o", "a.png"]);
    let told = replayed_with(&daemon.sandbox, "weights", json!("0123"))
        .ended_with(1)
        .json()
        .remove(0);
    assert_eq!(
        (&told["same"], &told["identical"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(told["changed"]["weights"]["file"], "0123");
    let now = told["changed"]["weights"]["now"].as_str();
    assert_eq!(now.map(str::len), Some(64), "{told}");
    let output = daemon.imagepool(&["replay", "b.png"]).ended_with(1);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("weights: \"0123\" in the file, "), "{said}");
    let told = replayed_with(&daemon.sandbox, "version", json!("0.0.1"))
        .succeeded()
        .json()
        .remove(0);
    assert_eq!(told["changed"]["version"]["file"], "0.0.1");
}

#[test]
fn a_file_that_says_too_little_is_refused() {
    let daemon = TestDaemon::start("");
    draw(&daemon.sandbox, &["--no-metadata", "-o", "bare.png"]);
    draw(&daemon.sandbox, &["--no-metadata", "-o", "bare.jpg"]);
    draw(&daemon.sandbox, &["--no-metadata", "-o", "bare.webp"]);
    fs::write(daemon.sandbox.pictures().join("a.txt"), "text").expect("our own folder");
    let jobs = jobs_done(&daemon);
    for (file, word) in [
        ("bare.png", "has no receipt"),
        ("bare.jpg", "has no receipt"),
        ("bare.webp", "has no receipt"),
        ("a.txt", "is not a valid PNG"),
        ("nowhere.png", "cannot be read"),
        (".", "cannot be read"),
    ] {
        let output = daemon.imagepool(&["replay", file, "--json"]).ended_with(2);
        let first = output.stderr.lines().next().unwrap_or_default();
        assert!(
            first.starts_with(&format!("imagepool: {file}: ")),
            "{first}"
        );
        assert!(first.contains(word), "{first}");
        assert_eq!(output.json()[0]["error"]["kind"], "receipt");
    }
    assert_eq!(jobs_done(&daemon), jobs, "nothing was drawn for them");
}

#[test]
fn a_receipt_that_cannot_be_followed_names_the_field() {
    let daemon = TestDaemon::start("");
    draw(&daemon.sandbox, &["-o", "a.png"]);
    let cases = [
        ("model", json!("no-such-model")),
        ("model", json!("no such model")),
        ("size", json!("17x33")),
        ("size", json!("big")),
        ("steps", json!(65)),
        ("steps", json!(-1)),
        ("seed", json!("seven")),
        ("guidance", json!(3.5)),
        ("negative", json!("fog")),
        ("prompt", json!("x".repeat(100_000))),
        ("job", json!(7)),
    ];
    for (field, value) in cases {
        let output = replayed_with(&daemon.sandbox, field, value).ended_with(2);
        let first = output.stderr.lines().next().unwrap_or_default();
        assert!(
            first.starts_with(&format!("imagepool: {field}: ")),
            "{first:.200}"
        );
        assert_eq!(output.json()[0]["error"]["field"], field);
    }
}

#[test]
fn a_receipts_words_are_shown_with_what_a_terminal_would_obey_escaped() {
    let daemon = TestDaemon::start("");
    draw(&daemon.sandbox, &["-o", "a.png"]);
    for (field, shown) in [
        ("weights", "words"),
        ("sampler", "words"),
        ("model", "words"),
        ("size", "words"),
        (OBEYED, "words"),
    ] {
        let output = replayed_with(&daemon.sandbox, field, json!(OBEYED));
        let plain = daemon.imagepool(&["replay", "b.png"]);
        for output in [output, plain] {
            assert_ne!(output.code, 0, "{field:?}");
            let said = String::from_utf8_lossy(&output.stdout).into_owned() + &output.stderr;
            assert!(said.contains(shown), "{said}");
            let obeyed = |c: char| c != '\n' && is_obeyed(c);
            assert!(!said.contains(obeyed), "{said:?}");
        }
    }
}

#[test]
fn a_setting_leaves_receipt_and_mark_out_of_every_file() {
    let daemon = TestDaemon::start("[pictures]\nmetadata = false");
    for file in ["a.png", "a.jpg", "a.webp"] {
        draw(&daemon.sandbox, &["-o", file]);
        let bytes = fs::read(daemon.sandbox.pictures().join(file)).expect("it was drawn");
        for word in [&b"imagepool"[..], b"xmp", b"purple"] {
            let found = bytes.windows(word.len()).any(|part| part == word);
            assert!(!found, "{file}: {:?}", String::from_utf8_lossy(word));
        }
    }
}
