//! Chance that can be repeated: every test that uses it prints its seed.

use std::time::Duration;

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// From `IMAGEPOOL_SEED` where it is set, else from `default`; the seed is printed either way.
    pub fn new(default: u64) -> Self {
        let seed = std::env::var("IMAGEPOOL_SEED").map_or(default, |text| {
            text.parse().expect("IMAGEPOOL_SEED is a number")
        });
        println!("IMAGEPOOL_SEED={seed} repeats this");
        Self(seed)
    }

    /// One of several in a test whose seed was printed: from `IMAGEPOOL_SEED` and `nth`.
    pub fn quiet(nth: u64) -> Self {
        let seed = std::env::var("IMAGEPOOL_SEED").ok();
        let seed: u64 = seed.and_then(|text| text.parse().ok()).unwrap_or(0);
        Self(seed.wrapping_mul(0x9e37_79b9).wrapping_add(nth))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to less than `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound
    }

    /// Up to `longest`, in milliseconds.
    pub fn moment(&mut self, longest: Duration) -> Duration {
        Duration::from_millis(self.below(longest.as_millis() as u64 + 1))
    }

    /// Returns `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.bits() as u8).collect()
    }
}
