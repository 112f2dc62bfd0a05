//! Variants of a valid weight file, each with one damage.

#![allow(
    dead_code,
    unused_imports,
    reason = "each test program uses its own part"
)]

mod block;

pub(crate) use block::{gguf, with_type};
use serde_json::{Map, Value, json};

/// A damaged file with a description of the damage.
pub(crate) struct Damaged {
    pub(crate) what: String,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn damaged(what: impl Into<String>, bytes: Vec<u8>) -> Damaged {
    Damaged {
        what: what.into(),
        bytes,
    }
}

/// The start of the data in a safetensors file.
pub(crate) fn data_start(bytes: &[u8]) -> usize {
    let prefix = bytes.first_chunk::<8>().expect("a length");
    8 + u64::from_le_bytes(*prefix) as usize
}

fn header(bytes: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(&bytes[8..data_start(bytes)]).expect("a good header")
}

fn with_header(bytes: &[u8], header: &str) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    let data = &bytes[data_start(bytes)..];
    [&length, header.as_bytes(), data].concat()
}

/// The file with one more tensor of a single f32.
pub(crate) fn with_tensor(bytes: &[u8], name: &str) -> Vec<u8> {
    let mut header = header(bytes);
    let end = bytes.len() - data_start(bytes);
    let tensor = json!({"dtype": "F32", "shape": [1], "data_offsets": [end, end + 4]});
    header.insert(name.to_owned(), tensor);
    let mut longer = with_header(bytes, &Value::Object(header).to_string());
    longer.extend([0; 4]);
    longer
}

/// All variants of a safetensors file with a structural defect.
pub(crate) fn safetensors(good: &[u8]) -> Vec<Damaged> {
    let mut all = cut(good);
    all.extend(lengths(good));
    all.extend(tensors(good));
    all.extend(headers(good));
    all
}

fn cut(good: &[u8]) -> Vec<Damaged> {
    let start = data_start(good);
    let places = [
        0,
        1,
        7,
        8,
        9,
        start / 2,
        start - 1,
        start,
        start + 1,
        (start + good.len()) / 2,
        good.len() - 1,
    ];
    let cut = |at: &usize| damaged(format!("cut at {at}"), good[..*at].to_vec());
    places.iter().map(cut).collect()
}

fn lengths(good: &[u8]) -> Vec<Damaged> {
    let header = data_start(good) as u64 - 8;
    let lengths = [
        0,
        1,
        header - 1,
        header + 1,
        good.len() as u64,
        100_000_001,
        1 << 63,
        u64::MAX,
    ];
    let with = |length: &u64| {
        let bytes = [&length.to_le_bytes(), &good[8..]].concat();
        damaged(format!("a header of {length}"), bytes)
    };
    lengths.iter().map(with).collect()
}

/// Wrong descriptions of one tensor, an f16 matrix that is not square and not the last tensor.
fn tensors(good: &[u8]) -> Vec<Damaged> {
    const TENSOR: &str = "encoder.block.1.layer.1.DenseReluDense.wi_0.weight";
    let header = header(good);
    let found = &header[TENSOR];
    let offset = |i: usize| found["data_offsets"][i].as_u64().expect("an offset");
    let (from, to) = (offset(0), offset(1));
    let side = |i: usize| found["shape"][i].as_u64().expect("a side");
    let (rows, columns) = (side(0), side(1));
    let changes = [
        ("data_offsets", json!([to, from])),
        ("data_offsets", json!([from, u64::MAX])),
        ("data_offsets", json!([from + 2, to + 2])),
        ("data_offsets", json!([from - 2, to - 2])),
        ("data_offsets", json!([from, to - 2])),
        ("data_offsets", json!([0, to - from])),
        ("data_offsets", json!([-1, to])),
        ("data_offsets", json!([from])),
        (
            "data_offsets",
            json!([1u64 << 62, (1u64 << 62) + to - from]),
        ),
        ("dtype", json!("F32")),
        ("dtype", json!("I16")),
        ("dtype", json!("F8_E4M3")),
        ("dtype", json!("Q9")),
        ("dtype", json!("f16")),
        ("dtype", json!(16)),
        ("shape", json!([columns, rows])),
        ("shape", json!([rows, columns, 1])),
        ("shape", json!([rows * 2, columns])),
        ("shape", json!([0, columns])),
        ("shape", json!([1u64 << 40, 1u64 << 40])),
        ("shape", json!([u64::MAX, 2])),
        ("shape", json!([])),
        ("shape", json!("wide")),
    ];
    let change = |(key, value): (&str, Value)| {
        let mut header = header.clone();
        let what = format!("{key} {value}");
        header[TENSOR][key] = value;
        damaged(what, with_header(good, &Value::Object(header).to_string()))
    };
    changes.into_iter().map(change).collect()
}

/// Wrong names and headers that cannot be read.
fn headers(good: &[u8]) -> Vec<Damaged> {
    let start = data_start(good);
    let text = String::from_utf8_lossy(&good[8..start]).into_owned();
    let name = "\"encoder.final_layer_norm.weight\"";
    let twice = text.replacen(name, "\"shared.weight\"", 1);
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(20_000), "]".repeat(20_000));
    let mut trailing = good.to_vec();
    trailing.extend([0; 16]);
    let mut without = header(good);
    without.remove("encoder.final_layer_norm.weight");
    vec![
        damaged(
            "a name with another letter",
            with_header(
                good,
                &text.replacen(name, "\"encoder.final_layer_norm.weighs\"", 1),
            ),
        ),
        damaged("a name twice", with_header(good, &twice)),
        damaged(
            "a tensor nobody wants",
            with_tensor(good, "encoder.block.9.layer.0.SelfAttention.q.weight"),
        ),
        damaged(
            "bytes of no tensor",
            with_header(good, &Value::Object(without).to_string()),
        ),
        damaged("bytes at the end", trailing),
        damaged("no JSON", with_header(good, &"x".repeat(64))),
        damaged("an array", with_header(good, "[1, 2, 3]")),
        damaged("a deep header", with_header(good, &deep)),
        damaged("no tensors", with_header(good, "{}")),
    ]
}
