//! Large weight files, with values of zero that are holes on disk.

#![allow(dead_code, reason = "each test program uses its own part")]

use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// The encoding of a file of zeros.
#[derive(Clone, Copy)]
pub(crate) enum StoredAs {
    F32,
    Bf16,
}

impl StoredAs {
    /// Its name in a header, and the bytes of an element.
    fn named(self) -> (&'static str, u64) {
        match self {
            Self::F32 => ("F32", 4),
            Self::Bf16 => ("BF16", 2),
        }
    }
}

/// The growth of a file.
pub(crate) struct Growth<'a> {
    /// The prefix below which block 1 is repeated.
    pub(crate) prefix: &'a str,
    /// Number of blocks afterwards.
    pub(crate) blocks: usize,
    /// Sides of tensors to replace, and their new values.
    pub(crate) widen: &'a dyn Fn(&str, u64) -> u64,
    /// The encoding of the larger file.
    pub(crate) stored: StoredAs,
}

/// Replaces the safetensors file `path` by a larger one.
pub(crate) fn grow(path: &Path, growth: &Growth) {
    let bytes = std::fs::read(path).expect("a weight file");
    let (length, rest) = bytes.split_first_chunk::<8>().expect("a header's length");
    let header = &rest[..u64::from_le_bytes(*length) as usize];
    let header: Map<String, Value> = serde_json::from_slice(header).expect("a header");
    let tensors = header.iter().filter(|(name, _)| *name != "__metadata__");
    let grown = tensors.flat_map(|(name, tensor)| {
        let shape = widened(name, tensor, growth);
        let copies = copies(name, growth).into_iter();
        copies.map(move |name| (name, shape.clone()))
    });
    sparse(path, growth.stored, grown);
}

/// Writes a safetensors file of zeros, which are holes on disk.
pub(crate) fn sparse(
    path: &Path,
    stored: StoredAs,
    tensors: impl Iterator<Item = (String, Vec<u64>)>,
) {
    let mut header = Map::new();
    let (dtype, width) = stored.named();
    let mut end = 0;
    for (name, shape) in tensors {
        let offsets = [end, end + width * shape.iter().product::<u64>()];
        end = offsets[1];
        let tensor = json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
        header.insert(name, tensor);
    }
    let header = serde_json::to_vec(&header).expect("JSON");
    let mut file = File::create(path).expect("a writable folder");
    file.write_all(&(header.len() as u64).to_le_bytes())
        .and_then(|()| file.write_all(&header))
        .and_then(|()| file.set_len(8 + header.len() as u64 + end))
        .expect("a writable folder");
}

fn widened(name: &str, tensor: &Value, growth: &Growth) -> Vec<u64> {
    let shape = tensor["shape"].as_array().expect("a shape");
    let sides = shape.iter().map(|side| side.as_u64().expect("a side"));
    sides.map(|side| (growth.widen)(name, side)).collect()
}

/// The names of a tensor in the larger file.
fn copies(name: &str, growth: &Growth) -> Vec<String> {
    let Some(block) = name.strip_prefix(growth.prefix) else {
        return vec![name.to_owned()];
    };
    match block.split_once('.') {
        Some(("0", _)) => vec![name.to_owned()],
        Some(("1", rest)) => (1..growth.blocks)
            .map(|nth| format!("{}{nth}.{rest}", growth.prefix))
            .collect(),
        _ => Vec::new(),
    }
}
