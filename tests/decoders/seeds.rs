//! Valid inputs of each decoder.

use std::collections::BTreeMap;

use ipc_protocol::obituary::Obituary;
use ipc_protocol::units::PictureSize;
use serde_json::{Value, json};
use store::event::{FetchEvent, PlannedFile};
use supervisor::catalogue::manifest::BUILT_IN;
use supervisor::config;
use supervisor::picture::file::{self, Metadata};
use supervisor::picture::format::{PictureFormat, Quality};
use supervisor::picture::receipt::Receipt;

/// The bytes of every message: `NAME = HEX` lines.
const FRAMES: &str = include_str!("../../ipc-protocol/tests/protocol/golden.hex");

fn frames(side: &str) -> Vec<Vec<u8>> {
    let frames = FRAMES.lines().filter_map(|line| {
        let (name, hex) = line.split_once(" = ")?;
        name.starts_with(side).then(|| unhex(hex))
    });
    frames.collect()
}

fn unhex(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).expect("a hex digit") as u8;
    let pairs = hex.as_bytes().chunks_exact(2);
    pairs
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

pub fn frames_to_pool() -> Vec<Vec<u8>> {
    frames("ToPool::")
}

pub fn frames_from_pool() -> Vec<Vec<u8>> {
    frames("FromPool::")
}

pub fn frames_to_worker() -> Vec<Vec<u8>> {
    frames("ToWorker::")
}

pub fn frames_from_worker() -> Vec<Vec<u8>> {
    frames("FromWorker::")
}

/// A file of safetensors with two tensors.
pub fn weights() -> Vec<Vec<u8>> {
    let header = json!({
        "__metadata__": { "format": "pt" },
        "a.weight": { "dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16] },
        "b": { "dtype": "BF16", "shape": [4], "data_offsets": [16, 24] },
    });
    let header = header.to_string();
    let mut safetensors = (header.len() as u64).to_le_bytes().to_vec();
    safetensors.extend(header.as_bytes());
    safetensors.extend([0; 24]);
    vec![safetensors]
}

/// A file of each version of GGUF with two tensors.
pub fn ggufs() -> Vec<Vec<u8>> {
    vec![gguf(3), gguf(2)]
}

/// Bodies of OpenAI's image API, with every field.
pub fn image_bodies() -> Vec<Vec<u8>> {
    let whole = json!({
        "prompt": "a red fox", "model": "pocket-flux", "n": 2, "size": "128x128", "quality": "high", "steps": 4, "seed": 7,
        "guidance_scale": 1.5, "negative_prompt": "", "timeout_seconds": 30, "priority": "low", "response_format": "b64_json",
        "output_format": "jpeg", "output_compression": 80, "background": "opaque", "moderation": "low", "user": "a",
        "stream": true, "partial_images": 2, "async": false, "style": "vivid",
    });
    let plain = json!({ "prompt": "a red fox" });
    [whole, plain]
        .map(|body| body.to_string().into_bytes())
        .into()
}

/// Bodies of the web UI's API.
pub fn txt2img_bodies() -> Vec<Vec<u8>> {
    let whole = json!({
        "prompt": "a red fox", "negative_prompt": "grey", "seed": -1, "steps": 20, "cfg_scale": 7.0, "width": 512, "height": 512,
        "batch_size": 1, "n_iter": 2, "sampler_name": "Euler a", "scheduler": "automatic", "enable_hr": false,
        "restore_faces": null, "override_settings": { "sd_model_checkpoint": "pocket-flux" }, "send_images": true,
        "alwayson_scripts": {},
    });
    let plain = json!({ "prompt": "a red fox" });
    [whole, plain]
        .map(|body| body.to_string().into_bytes())
        .into()
}

fn gguf(version: u32) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(2_u64.to_le_bytes());
    bytes.extend(2_u64.to_le_bytes());
    named(&mut bytes, "general.alignment");
    bytes.extend([4_u32.to_le_bytes(), 32_u32.to_le_bytes()].concat());
    named(&mut bytes, "words");
    bytes.extend([9_u32.to_le_bytes(), 8_u32.to_le_bytes()].concat());
    bytes.extend(2_u64.to_le_bytes());
    named(&mut bytes, "one");
    named(&mut bytes, "two");
    for (name, offset) in [("a.weight", 0_u64), ("b", 32)] {
        named(&mut bytes, name);
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(8_u64.to_le_bytes());
        bytes.extend(0_u32.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(32) + 64, 0);
    bytes
}

fn named(bytes: &mut Vec<u8>, name: &str) {
    bytes.extend((name.len() as u64).to_le_bytes());
    bytes.extend(name.as_bytes());
}

fn receipt() -> Receipt {
    Receipt {
        prompt: "a \"red\" fox".into(),
        negative: Some("fog".into()),
        model: "pocket-flux".into(),
        weights: "1cc1fed47e6d".into(),
        seed: u64::MAX,
        steps: 4,
        guidance: 0.5,
        size: "16x8".into(),
        sampler: "euler".into(),
        dtype: "f32".into(),
        prompt_cut: true,
        version: "0.1.0".into(),
    }
}

/// A small picture in each format, with its receipt.
pub fn pictures() -> Vec<Vec<u8>> {
    let size = PictureSize {
        width: 16,
        height: 8,
    };
    let pixels: Vec<u8> = (0..size.rgb8_bytes()).map(|byte| byte as u8).collect();
    let forms = [
        (PictureFormat::Png, Quality::BEST),
        (PictureFormat::Jpeg, Quality::BEST),
        (PictureFormat::Webp, Quality::BEST),
        (
            PictureFormat::Webp,
            Quality::new(50).expect("from 1 to 100"),
        ),
    ];
    let metadata = Metadata::of(receipt(), true);
    forms
        .map(|(format, quality)| file::file(size, &pixels, format, quality, &metadata))
        .map(|file| file.expect("a small picture"))
        .to_vec()
}

pub fn receipts() -> Vec<Vec<u8>> {
    vec![receipt().json().expect("a receipt is JSON").into_bytes()]
}

/// The example file, and each section that it only suggests and that is valid alone.
pub fn settings() -> Vec<Vec<u8>> {
    let example = include_str!("../../imagepool.example.toml");
    let mut seeds = vec![example.as_bytes().to_vec()];
    let mut section = String::new();
    for line in example.lines().chain(["["]) {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if line.starts_with('[') {
            let whole = std::mem::take(&mut section);
            if config::parse(&whole).is_ok() {
                seeds.push(whole.into_bytes());
            }
        }
        if line.starts_with('[') || line.contains(" = ") {
            section = section + line + "\n";
        }
    }
    seeds
}

pub fn configurations() -> Vec<Vec<u8>> {
    let files: [&[u8]; 4] = [
        include_bytes!("../../worker/assets/pocket-flux/config.json"),
        include_bytes!("../../worker/assets/pocket-sd3/config.json"),
        include_bytes!("../../worker/tests/goldens/tiny-flux/meta.json"),
        include_bytes!("../../worker/tests/goldens/tiny-sd3/meta.json"),
    ];
    files.map(<[u8]>::to_vec).to_vec()
}

pub fn tokenizers() -> Vec<Vec<u8>> {
    let files: [&[u8]; 2] = [
        include_bytes!("../../worker/assets/pocket-flux/clip_tokenizer.json"),
        include_bytes!("../../worker/assets/pocket-flux/t5_tokenizer.json"),
    ];
    files.map(<[u8]>::to_vec).to_vec()
}

pub fn manifests() -> Vec<Vec<u8>> {
    let all: Vec<Value> = serde_json::from_str(BUILT_IN).expect("the stored manifests");
    all.iter().map(|one| one.to_string().into_bytes()).collect()
}

pub fn hub_listings() -> Vec<Vec<u8>> {
    let page = json!([
        { "type": "directory", "oid": "0a", "path": "text_encoder" },
        { "type": "file", "oid": "1b", "size": 9, "path": "model_index.json" },
        {
            "type": "file", "oid": "2c", "size": 7, "path": "a.safetensors", "xetHash": "3d",
            "lfs": { "oid": "4e", "size": 7, "pointerSize": 1, "sha256": "4e" },
        },
    ]);
    vec![page.to_string().into_bytes()]
}

pub fn fetch_events() -> Vec<Vec<u8>> {
    let planned = FetchEvent::Planned {
        commit: "c0ffee".into(),
        files: vec![PlannedFile {
            name: "a.safetensors".into(),
            bytes: 7,
        }],
    };
    let events = [
        FetchEvent::Waiting,
        planned,
        FetchEvent::Progress { file: 0, bytes: 3 },
        FetchEvent::Failed {
            kind: "network".into(),
            message: "no answer".into(),
        },
    ];
    events.map(|event| event.line().into_bytes()).to_vec()
}

/// Lines of a record that a daemon wrote.
pub fn record_lines() -> Vec<Vec<u8>> {
    let lines = include_str!("record.jsonl").lines();
    lines.map(|line| line.as_bytes().to_vec()).collect()
}

pub fn obituaries() -> Vec<Vec<u8>> {
    let obituary = Obituary {
        worker: "pocket-flux:0".into(),
        model: "pocket-flux".into(),
        reserved_mb: BTreeMap::from([("host".into(), 100)]),
        next: vec!["its job goes on from step 3".into()],
        lines: vec!["worker: a line".into()],
        ..Obituary::default()
    };
    vec![serde_json::to_vec(&obituary).expect("an obituary is JSON")]
}
