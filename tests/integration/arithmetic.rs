//! The dtype and encoders of a model's section reach the picture's receipt and the log.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use serde_json::Value;
use tests::daemon::TestDaemon;
use tests::pixels::Pixels;
use tests::program::PATIENCE;

/// A picture's file, its pixels and its receipt.
struct DecodedPicture {
    file: Vec<u8>,
    pixels: Pixels,
    receipt: Value,
}

/// A daemon that offers the tiny FLUX checkpoint with these settings.
fn daemon(settings: &str) -> TestDaemon {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../worker/tests/goldens/tiny-flux");
    let path = folder.display();
    TestDaemon::start(&format!("[models.tiny]\npath = \"{path}\"\n{settings}"))
}

fn draw(daemon: &TestDaemon) -> DecodedPicture {
    let prompt = "a red circle left of a blue square";
    let ask = ["generate", prompt, "--model", "tiny", "--size", "256x256"];
    let how = ["--seed", "7", "-f", "-o", "a.png"];
    daemon.imagepool(&[&ask[..], &how].concat()).succeeded();
    let place = daemon.sandbox.pictures().join("a.png");
    let file = fs::read(&place).expect("it was written");
    let reader = png::Decoder::new(Cursor::new(&file)).read_info();
    let reader = reader.expect("a PNG");
    let text = &reader.info().utf8_text[0];
    assert_eq!(text.keyword, "imagepool");
    let receipt = text.get_text().expect("it is not cut short");
    DecodedPicture {
        receipt: serde_json::from_str(&receipt).expect("a receipt is JSON"),
        pixels: Pixels::read(&place),
        file,
    }
}

#[test]
fn the_receipt_names_the_dtype_and_dropped_encoders_change_no_byte() {
    let dropped = draw(&daemon("dtype = \"bf16\"\nencoders = \"drop\""));
    let kept = draw(&daemon("dtype = \"bf16\"\nencoders = \"keep\""));
    assert_eq!(dropped.receipt["dtype"], "bf16");
    assert!(
        dropped.file == kept.file,
        "where the encoders are can be seen"
    );
    let wide = draw(&daemon(""));
    assert_eq!(wide.receipt["dtype"], "f32");
    assert!(wide.pixels != kept.pixels, "bf16 rounds nothing");
}

#[test]
fn f16_on_a_processor_is_drawn_in_bf16_and_reported() {
    let daemon = daemon("device = \"cpu\"\ndtype = \"f16\"");
    let drawn = draw(&daemon);
    assert_eq!(drawn.receipt["dtype"], "bf16");
    let said = daemon.stderr.wait_for("bf16 instead of f16: ", 1, PATIENCE);
    // Either of the two that a cold start brings may be the first to say it.
    assert!(
        said.contains(" warning: ") && said.contains("worker=tiny:"),
        "{said}"
    );
}

#[test]
fn the_books_follow_the_dtype_and_the_encoders() {
    let need = |settings: &str| {
        let models = daemon(settings).status().models;
        let tiny = models
            .into_iter()
            .find(|model| model.key.as_str() == "tiny");
        tiny.expect("it is offered").need_mb
    };
    let kept = need("");
    assert!(need("dtype = \"bf16\"") < kept);
    assert!(need("encoders = \"drop\"") < kept);
}
