//! Variants of a valid GGUF file, each with one damage.

use super::{Damaged, damaged};

/// Positions of the fields of a tensor's description.
struct BlockHeader {
    dimensions: usize,
    kind: usize,
    offset: usize,
}

fn find(bytes: &[u8], name: &str) -> BlockHeader {
    let mut key = (name.len() as u64).to_le_bytes().to_vec();
    key.extend(name.as_bytes());
    let at = bytes.windows(key.len()).position(|window| window == key);
    let dimensions = at.expect("a tensor of the file") + key.len();
    let kind = dimensions + 4 + 8 * usize::from(bytes[dimensions]);
    BlockHeader {
        dimensions,
        kind,
        offset: kind + 4,
    }
}

fn with(bytes: &[u8], at: usize, put: &[u8]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[at..at + put.len()].copy_from_slice(put);
    changed
}

/// The first tensor of one type, labelled as another.
pub(crate) fn with_type(bytes: &[u8], from: u8, to: u8) -> (String, Vec<u8>) {
    let names = (0..3).flat_map(|block| {
        ["linear1", "linear2", "modulation.lin"]
            .map(|layer| format!("single_blocks.{block}.{layer}.weight"))
    });
    let mut found = names.map(|name| (find(bytes, &name).kind, name));
    let (kind, name) = found
        .find(|(kind, _)| bytes[*kind] == from)
        .expect("one of that type");
    (name, with(bytes, kind, &[to]))
}

/// All variants of a GGUF file with a structural defect.
pub(crate) fn gguf(good: &[u8]) -> Vec<Damaged> {
    let tensor = find(good, "single_blocks.1.linear1.weight");
    let norm = find(good, "single_blocks.1.norm.key_norm.scale");
    let cuts = [
        0,
        3,
        4,
        7,
        8,
        16,
        23,
        24,
        40,
        tensor.dimensions,
        tensor.offset + 4,
        good.len() / 2,
        good.len() - 40,
    ];
    let mut all: Vec<Damaged> = cuts
        .iter()
        .map(|at| damaged(format!("cut at {at}"), good[..*at].to_vec()))
        .collect();
    let long = |value: u64| value.to_le_bytes();
    let changes: [(&str, usize, &[u8]); 17] = [
        ("another magic", 0, b"GGML"),
        ("version 1", 4, &[1]),
        ("version 99", 4, &[99]),
        ("big-endian version 3", 4, &[0, 0, 0, 3]),
        ("tensors without end", 8, &long(u64::MAX)),
        ("one tensor more", 8, &long(u64::from(good[8]) + 1)),
        ("one tensor fewer", 8, &long(u64::from(good[8]) - 1)),
        ("pairs without end", 16, &long(u64::MAX)),
        ("a key without end", 24, &long(u64::MAX)),
        ("a key of 2 GiB", 24, &long(1 << 31)),
        ("200 dimensions", tensor.dimensions, &[200]),
        ("a side without end", tensor.dimensions + 4, &long(u64::MAX)),
        (
            "a side that overflows",
            tensor.dimensions + 4,
            &long(1 << 60),
        ),
        ("an unknown type", norm.kind, &[200]),
        ("a wider type", norm.kind, &[28]),
        ("an offset out of step", tensor.offset, &[1]),
        ("an offset beyond", tensor.offset, &long(1 << 50)),
    ];
    all.extend(
        changes
            .iter()
            .map(|(what, at, put)| damaged(*what, with(good, *at, put))),
    );
    all.push(damaged(
        "two at one place",
        with(good, tensor.offset, &long(0)),
    ));
    let letter = with(good, tensor.dimensions - 1, b"x");
    all.push(damaged("a name with another letter", letter));
    all.push(damaged("bytes at the end", [good, &[0; 64]].concat()));
    all
}
