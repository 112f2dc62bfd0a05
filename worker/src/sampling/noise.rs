//! The initial noise from a counter-based generator: value *i* depends only on the seed and *i*.
//!
//! It is always computed on the CPU, so that threads, batch, device and retries do not change a picture.
//! Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC11, 2011) gives four
//! 32-bit words per counter; the Box-Muller transform turns two words into two normal values.
//! Logarithm, sine and cosine come from the `libm` crate and not from the platform's C library, whose
//! results differ in the last bit between systems.

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const KEY_STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85]; // golden ratio, sqrt(3) - 1
const ROUNDS: usize = 10;

/// Returns the four words of the stream of `key` at `counter`.
pub fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let mut words = counter;
    let mut key = key;
    for round in 0..ROUNDS {
        if round > 0 {
            key = [
                key[0].wrapping_add(KEY_STEPS[0]),
                key[1].wrapping_add(KEY_STEPS[1]),
            ];
        }
        let low = u64::from(MULTIPLIERS[0]) * u64::from(words[0]);
        let high = u64::from(MULTIPLIERS[1]) * u64::from(words[2]);
        words = [
            (high >> 32) as u32 ^ words[1] ^ key[0],
            high as u32,
            (low >> 32) as u32 ^ words[3] ^ key[1],
            low as u32,
        ];
    }
    words
}

/// Converts two uniform words to two standard normal values.
fn normal_pair(radius_word: u32, angle_word: u32) -> [f32; 2] {
    const RANGE: f64 = 4_294_967_296.0; // 2^32
    let uniform = (f64::from(radius_word) + 1.0) / RANGE; // (0, 1], so that its logarithm is finite
    let angle = f64::from(angle_word) / RANGE * std::f64::consts::TAU;
    let radius = libm::sqrt(-2.0 * libm::log(uniform));
    [
        (radius * libm::cos(angle)) as f32,
        (radius * libm::sin(angle)) as f32,
    ]
}

/// Returns the first `count` standard normal values of `seed`.
pub fn normal(seed: u64, count: usize) -> Vec<f32> {
    let key = [seed as u32, (seed >> 32) as u32];
    let mut values = Vec::with_capacity(count.next_multiple_of(4));
    for block in 0..count.div_ceil(4) as u64 {
        let w = philox([block as u32, (block >> 32) as u32, 0, 0], key);
        values.extend(normal_pair(w[0], w[1]));
        values.extend(normal_pair(w[2], w[3]));
    }
    values.truncate(count);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vectors of the Random123 distribution (`kat_vectors`, philox4x32 10).
    #[test]
    fn words_equal_the_published_test_vectors() {
        let all = u32::MAX;
        assert_eq!(
            philox([0; 4], [0; 2]),
            [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]
        );
        assert_eq!(
            philox([all; 4], [all; 2]),
            [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]
        );
        let pi = [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344];
        let key = [0xa4093822, 0x299f31d0];
        assert_eq!(
            philox(pi, key),
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]
        );
    }

    /// Computed by another program from the definition above. Changing these values changes the picture of every
    /// seed.
    #[test]
    fn normal_values_equal_the_recorded_ones() {
        let bits: Vec<u32> = normal(1, 6).iter().map(|v| v.to_bits()).collect();
        assert_eq!(bits, RECORDED_SEED_1);
        let far: Vec<u32> = normal(u64::MAX, 100_003)[100_000..]
            .iter()
            .map(|v| v.to_bits())
            .collect();
        assert_eq!(far, RECORDED_SEED_MAX_AT_100_000);
    }

    const RECORDED_SEED_1: [u32; 6] = [
        0x3ec2c3e3, 0xbe97b1bc, 0xbe7f370c, 0xbf807dbd, 0x3f207fa8, 0xbf224cc3,
    ];
    const RECORDED_SEED_MAX_AT_100_000: [u32; 3] = [0xbd8ae314, 0xbeabb995, 0xbe345f48];

    #[test]
    fn more_values_of_a_seed_begin_with_the_same_ones() {
        assert_eq!(normal(7, 1024)[..5], normal(7, 5)[..]);
    }

    #[test]
    fn values_are_standard_normal() {
        let values = normal(42, 1 << 16);
        let count = values.len() as f64;
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
        let variance = values
            .iter()
            .map(|v| (f64::from(*v) - mean).powi(2))
            .sum::<f64>()
            / count;
        let tail = values.iter().filter(|v| v.abs() > 1.959_964).count() as f64 / count;
        assert!(
            mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02,
            "{mean} {variance}"
        );
        assert!((tail - 0.05).abs() < 0.004, "{tail}");
    }
}
