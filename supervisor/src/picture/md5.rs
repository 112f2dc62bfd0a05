//! MD5, RFC 1321: the name of an extended XMP packet. It protects nothing.

/// Left rotations of the four rounds.
const SHIFTS: [[u32; 4]; 4] = [
    [7, 12, 17, 22],
    [5, 9, 14, 20],
    [4, 11, 16, 23],
    [6, 10, 15, 21],
];

/// Returns the digest.
pub fn md5(bytes: &[u8]) -> [u8; 16] {
    let mut padded = bytes.to_vec();
    padded.push(0x80);
    padded.resize((padded.len() + 8).next_multiple_of(64) - 8, 0);
    padded.extend_from_slice(&(bytes.len() as u64).wrapping_mul(8).to_le_bytes());
    let mut state = [0x6745_2301u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    for block in padded.as_chunks::<64>().0 {
        let before = state;
        let (words, _) = block.as_chunks::<4>();
        for step in 0..64 {
            state = turned(state, step, words);
        }
        for (word, before) in state.iter_mut().zip(before) {
            *word = word.wrapping_add(before);
        }
    }
    let mut digest = [0; 16];
    for (bytes, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *bytes = word.to_le_bytes();
    }
    digest
}

/// One of the 64 steps of a block.
fn turned([a, b, c, d]: [u32; 4], step: usize, words: &[[u8; 4]]) -> [u32; 4] {
    let (mixed, word) = match step / 16 {
        0 => ((b & c) | (!b & d), step),
        1 => ((d & b) | (!d & c), (5 * step + 1) % 16),
        2 => (b ^ c ^ d, (3 * step + 5) % 16),
        _ => (c ^ (b | !d), (7 * step) % 16),
    };
    // RFC 1321 defines the constants as sines.
    let sine = ((step + 1) as f64).sin().abs() * 4_294_967_296.0;
    let sum = a
        .wrapping_add(mixed)
        .wrapping_add(sine as u32)
        .wrapping_add(u32::from_le_bytes(words[word]));
    let turned = sum.rotate_left(SHIFTS[step / 16][step % 4]);
    [d, b.wrapping_add(turned), b, c]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_have_their_digests() {
        let cases = [
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
            ("abc", "900150983cd24fb0d6963f7d28e17f72"),
            (
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
                "d174ab98d277d9f5a5611c2c9f419d9f",
            ),
            (
                "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
                "57edf4a22be3c955ac49da2e2107b67a",
            ),
        ];
        for (text, expected) in cases {
            let digest: String = md5(text.as_bytes())
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            assert_eq!(digest, expected, "{text}");
        }
    }
}
