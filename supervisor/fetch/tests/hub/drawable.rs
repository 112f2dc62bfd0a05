//! A tiny FLUX that can be drawn with as it is fetched, with tables of the published size.
//!
//! The files are those of the worker's test folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

const REPOSITORY: &str = "black-forest-labs/FLUX.1-schnell";
/// Words of the published tokenizers of CLIP and T5.
const WORDS: [(&str, u64); 2] = [("text_encoder", 49_408), ("text_encoder_2", 32_128)];
const TABLES: [&str; 3] = [
    "embeddings.token_embedding.weight",
    "shared.weight",
    "encoder.embed_tokens.weight",
];

/// The files of the diffusers variant: name on the mirror → content.
pub fn diffusers_files() -> BTreeMap<String, Vec<u8>> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../worker/tests/layouts/diffusers-flux");
    let mut files = BTreeMap::new();
    gather(&folder, REPOSITORY, &mut files);
    // The worker's folder does without it.
    let scheduler = format!("{REPOSITORY}/scheduler/scheduler_config.json");
    files.insert(scheduler, b"{\"shift\": 1.0}".to_vec());
    for (name, content) in &mut files {
        let encoder = name.split('/').nth(2).unwrap_or_default();
        if let Some((_, words)) = WORDS.iter().find(|(folder, _)| *folder == encoder) {
            if name.ends_with("/config.json") {
                let mut config: Value = serde_json::from_slice(content).expect("our own file");
                config["vocab_size"] = json!(words);
                *content = config.to_string().into_bytes();
            } else if name.ends_with(".safetensors") {
                *content = lengthened(content, *words);
            }
        }
    }
    files
}

fn gather(folder: &Path, name: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).expect("the worker's own test folder") {
        let entry = entry.expect("it can be read");
        let name = format!("{name}/{}", entry.file_name().to_string_lossy());
        match entry.path() {
            path if path.is_dir() => gather(&path, &name, files),
            path => {
                files.insert(name, fs::read(path).expect("it can be read"));
            }
        }
    }
}

/// Returns a safetensors file whose tables of words have `rows` rows, their own ones repeated.
fn lengthened(file: &[u8], rows: u64) -> Vec<u8> {
    let length: [u8; 8] = file[..8].try_into().expect("eight bytes");
    let (header, data) = file[8..].split_at(u64::from_le_bytes(length) as usize);
    let header: BTreeMap<String, Value> = serde_json::from_slice(header).expect("our own file");
    let (mut described, mut bytes) = (serde_json::Map::new(), Vec::new());
    for (name, mut tensor) in header {
        if let Some(span) = tensor.get("data_offsets") {
            let at = |end: usize| span[end].as_u64().expect("an offset") as usize;
            let mut values = data[at(0)..at(1)].to_vec();
            if TABLES.iter().any(|table| name.ends_with(table)) {
                let row = values.len() as u64 / tensor["shape"][0].as_u64().expect("a shape");
                let wanted = (row * rows) as usize;
                values = values.iter().copied().cycle().take(wanted).collect();
                tensor["shape"][0] = json!(rows);
            }
            tensor["data_offsets"] = json!([bytes.len(), bytes.len() + values.len()]);
            bytes.extend(values);
        }
        described.insert(name, tensor);
    }
    let header = Value::Object(described).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.into_bytes());
    file.extend(bytes);
    file
}
