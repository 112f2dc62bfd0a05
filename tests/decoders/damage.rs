//! Makes damaged inputs from valid ones.

use tests::chance::Chance;

/// Most bytes of a damaged input.
const LENGTH_MAX: usize = 128 << 10;
/// Bytes that break parsers: limits of integers, the codec's length prefixes, and JSON's own signs.
const BORDERS: [u8; 16] = [
    0, 1, 0x7f, 0x80, 0xfa, 0xfb, 0xfc, 0xff, b'"', b'\\', b'{', b'[', b'-', b'e', b'9', b'.',
];
/// Numbers that break parsers, where a file has a length or an offset.
const NUMBERS: [u64; 8] = [
    0,
    1,
    u32::MAX as u64,
    u64::MAX,
    i64::MAX as u64,
    1 << 40,
    1 << 31,
    (1 << 63) + 1,
];
/// Texts that break parsers of text.
const TEXTS: [&str; 10] = [
    "1e999",
    "-1",
    "18446744073709551616",
    "null",
    "\\ud800",
    "\u{1b}[2J",
    "[[[[[[[[[[[[[[[[",
    "{\"a\":{\"a\":{\"a\":",
    "\"\"",
    "0.1",
];

/// Returns the input of this number: one of the seeds with one to eight changes, and one in 16 times random bytes.
/// The same seeds and chance give the same input.
pub fn input(seeds: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    if chance.below(16) == 0 {
        let length = chance.below(64) as usize;
        return chance.bytes(length);
    }
    let mut bytes = pick(seeds, chance).clone();
    for _ in 0..=chance.below(8) {
        change(&mut bytes, seeds, chance);
    }
    bytes.truncate(LENGTH_MAX);
    bytes
}

fn pick<'a, T>(from: &'a [T], chance: &mut Chance) -> &'a T {
    &from[chance.below(from.len() as u64) as usize]
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], chance: &mut Chance) {
    if bytes.is_empty() {
        bytes.push(*pick(&BORDERS, chance));
        return;
    }
    let at = chance.below(bytes.len() as u64) as usize;
    match chance.below(11) {
        0 => bytes[at] = *pick(&BORDERS, chance),
        1 => bytes[at] = chance.bits() as u8,
        2 => bytes[at] ^= 1 << chance.below(8),
        3 => drop(bytes.remove(at)),
        4 => bytes.insert(at, *pick(&BORDERS, chance)),
        5 => bytes.truncate(at),
        6 => overwrite(bytes, at, &pick(&NUMBERS, chance).to_le_bytes()[..4]),
        7 => overwrite(bytes, at, &pick(&NUMBERS, chance).to_le_bytes()),
        8 => drop(bytes.splice(at..at, pick(&TEXTS, chance).bytes())),
        9 => repeat(bytes, at, chance),
        _ => cross(bytes, at, pick::<Vec<u8>>(seeds, chance)),
    }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    let room = bytes.len() - at;
    let length = with.len().min(room);
    bytes[at..at + length].copy_from_slice(&with[..length]);
}

/// Inserts a part again, up to 64 times.
fn repeat(bytes: &mut Vec<u8>, at: usize, chance: &mut Chance) {
    let end = (at + 1 + chance.below(64) as usize).min(bytes.len());
    let times = 1 + chance.below(64) as usize;
    let part = bytes[at..end].repeat(times);
    bytes.splice(at..at, part);
}

/// Continues with another seed from the same place.
fn cross(bytes: &mut Vec<u8>, at: usize, other: &[u8]) {
    bytes.truncate(at);
    bytes.extend_from_slice(other.get(at..).unwrap_or_default());
}
